// Pulls frames while there is something to see. One request at a time and a tenth of a second between frames:
// a slow page gets fewer frames, never old ones.
const FRAME_INTERVAL = 100; // ms
const IDLE_INTERVAL = 700; // ms, while waiting for a place or for the models
const RETRY_INTERVAL = 1500; // ms, while the server does not answer
const RUN_KEY = "studio-run";

const feed = {
  version: "",
  frame: { phase: "idle" },
  pulling: false,
  again: false,
  onFrame: () => {},
  onSilence: () => {},
};

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));

// The run that this tab believes to be going on: after a reload the server is asked for it by name.
function rememberRun(frame) {
  if (frame.run && !frame.is_over) sessionStorage.setItem(RUN_KEY, frame.run);
  else if (frame.run) sessionStorage.removeItem(RUN_KEY);
}

function nextPull(frame, started) {
  if (["running", "loading", "stopping"].includes(frame.phase)) return FRAME_INTERVAL - (performance.now() - started);
  if (frame.phase === "waiting" || frame.phase === "paused") return IDLE_INTERVAL;
  if (frame.phase === "idle" && frame.warming) return IDLE_INTERVAL;
  return null; // nothing will change by itself
}

async function pullUntilQuiet() {
  for (;;) {
    const started = performance.now();
    feed.again = false;
    const answer = await server.newest_frame({
      token: window.studio.token,
      seen: feed.version,
      run: sessionStorage.getItem(RUN_KEY) ?? "",
    });
    if (!answer) { // gradio's client logs the failure and returns nothing
      feed.onSilence(true);
      await pause(RETRY_INTERVAL);
      continue;
    }
    feed.onSilence(false);
    if (answer.phase) {
      feed.version = answer.version;
      feed.frame = answer;
      rememberRun(answer);
      feed.onFrame(answer);
      document.dispatchEvent(new CustomEvent("studio:frame", { detail: answer }));
    }
    const delay = nextPull(feed.frame, started);
    if (delay === null && !feed.again) return;
    await pause(delay ?? 0);
  }
}

async function wakeFeed() {
  feed.again = true;
  if (feed.pulling) return;
  feed.pulling = true;
  try {
    await pullUntilQuiet();
  } finally {
    feed.pulling = false;
  }
}

async function command(action) {
  await server.command({ token: window.studio.token, action });
  wakeFeed();
}
