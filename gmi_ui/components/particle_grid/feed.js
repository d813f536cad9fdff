// Pulls frames while there is something to see. One request at a time and a tenth of a second between frames:
// a slow page gets fewer frames, never old ones.
const FRAME_INTERVAL = 100; // ms
const IDLE_INTERVAL = 700; // ms, while waiting for a place or for the models
const HIDDEN_INTERVAL = 3000; // ms, while another tab is shown: the server is to know that somebody still cares
const RETRY_INTERVAL = 1500; // ms, while the server does not answer
const task = props.task;
const RUN_KEY = task === "generate" ? "studio-run" : `studio-run-${task}`;

const feed = {
  revision: "",
  frame: { phase: "idle" },
  pulling: false,
  again: false,
  wakeUp: () => {},
  onFrame: () => {},
  onSilence: () => {},
};

const pause = (ms) => new Promise((resolve) => {
  feed.wakeUp = resolve;
  setTimeout(resolve, Math.max(0, ms));
});
const isShown = () => element.offsetParent !== null;
// The page that made this browser's last run in this tab: once it is closed, or the studio was killed, a page can have it.
const LAST_KEY = `studio-last-${task}`;

function rememberLast(frame) {
  if (frame.run && Object.keys(frame.sides ?? {}).length) localStorage.setItem(LAST_KEY, window.studio.token);
}

const request = (more = {}) => ({ token: window.studio.token, ...more });

// The run that this tab believes to be going on: after a reload the server is asked for it by name.
function rememberRun(frame) {
  if (frame.run && !frame.is_over) sessionStorage.setItem(RUN_KEY, frame.run);
  else if (frame.run) sessionStorage.removeItem(RUN_KEY);
}

function interval(frame, elapsed) {
  const inversion = frame.workspace?.inversion;
  const isFinding = inversion && !inversion.is_over;
  if (["running", "loading", "stopping"].includes(frame.phase) || isFinding) return FRAME_INTERVAL - elapsed;
  if (frame.phase === "waiting" || frame.phase === "paused") return IDLE_INTERVAL;
  if (frame.phase === "idle" && frame.warming) return IDLE_INTERVAL;
  return null; // nothing will change by itself
}

function nextPull(frame, started) {
  const wanted = interval(frame, performance.now() - started);
  return wanted === null || isShown() ? wanted : HIDDEN_INTERVAL;
}

async function pullUntilQuiet() {
  for (;;) {
    const started = performance.now();
    feed.again = false;
    const answer = await server.newest_frame(
      request({
        seen: feed.revision,
        run: sessionStorage.getItem(RUN_KEY) ?? "",
        before: localStorage.getItem(LAST_KEY) ?? "",
      }),
    );
    if (!answer) { // gradio's client logs the failure and returns nothing
      feed.onSilence(true);
      await pause(RETRY_INTERVAL);
      continue;
    }
    feed.onSilence(false);
    if (answer.phase) {
      answer.task = task;
      feed.revision = answer.revision;
      feed.frame = answer;
      rememberRun(answer);
      rememberLast(answer);
      feed.onFrame(answer);
      document.dispatchEvent(new CustomEvent("studio:frame", { detail: answer }));
    }
    const delay = nextPull(feed.frame, started);
    if (delay === null && !feed.again) return;
    if (!feed.again) await pause(delay);
  }
}

async function wakeFeed() {
  feed.again = true;
  feed.wakeUp();
  if (feed.pulling) return;
  feed.pulling = true;
  try {
    await pullUntilQuiet();
  } finally {
    feed.pulling = false;
  }
}

async function command(action) {
  await server.command(request({ action }));
  wakeFeed();
}
