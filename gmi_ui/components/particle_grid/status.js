// The line above the grids: phase, step, speed, time left; and the message region below it.
const results = element.querySelector(".results");
const notice = element.querySelector(".notice");
let dismissed = 0;
let announced = "";
let noticedAt = 0; // when the message came to be shown
const { duration } = window.studio;

function phaseText(frame) {
  switch (frame.phase) {
    case "waiting":
      if (frame.place === 1 && frame.workspace?.inversion?.is_over === false) return "Waiting: your picture is being found first";
      if (frame.place === 1 && frame.held) return "Waiting: the run before yours is paused, for two minutes at most";
      return frame.place > 1 ? `Waiting: ${frame.place} runs are before yours` : "Waiting: one run is before yours";
    case "loading": return frame.doing || "Loading the models";
    case "running": return "Running";
    case "paused": return frame.wanted ? "Paused: another run waits, and begins after two minutes" : "Paused";
    case "stopping": return "Stopping after this step";
    case "done": return "Done";
    case "stopped": return "Stopped";
    case "failed": return "Ended early";
    default: return frame.warming ? "Warming up the models" : "Ready";
  }
}

function loadingText(frame) {
  const parts = [];
  if (frame.share) parts.push(`${Math.round(100 * frame.share)} %`);
  if (frame.left !== null && frame.left >= 3) parts.push(`${duration(frame.left)} left`);
  return parts.join("  \u00b7  ");
}

// Two models beside each other may each have steps of their own.
function stepsText(frame) {
  const counts = Object.values(frame.sides).map((side) => `${side.step} of ${side.total}`);
  if (!counts.length) return `step ${frame.step} of ${frame.total}`;
  return `step ${[...new Set(counts)].join(" and ")}`;
}

// Never "0.0 steps/s": what is slow is told by the seconds of a step.
function speedText(rate) {
  if (rate < 0.95) return `${(1 / rate).toFixed(rate > 0.1 ? 1 : 0)} s a step`;
  return `${rate.toFixed(rate < 10 ? 1 : 0)} steps/s`;
}

function numbersText(frame) {
  if (!frame.run || frame.phase === "waiting") return "";
  if (frame.phase === "loading") return loadingText(frame);
  const parts = [stepsText(frame)];
  if (frame.stage) parts.unshift(`stage ${frame.stage.number} of 2: ${frame.stage.text}`);
  if (frame.rate) parts.push(speedText(frame.rate));
  if (frame.left !== null && frame.phase === "running") parts.push(`${duration(frame.left)} left`);
  if (frame.phase !== "running") parts.push(`seed ${frame.seed}`); // it may have been drawn
  return parts.join("  ·  ");
}

// What the pictures below were made from: the controls may say something else by now.
function wordsText(frame) {
  if (!frame.run) return "";
  const words = frame.prompt || frame.aim || "Without words";
  return frame.neutral ? `${frame.neutral} \u2192 ${words}` : words;
}

function paintProgress(frame) {
  const share = frame.phase === "loading" ? frame.share ?? 0 : frame.run && frame.total ? frame.step / frame.total : 0;
  const bar = element.querySelector(".progress");
  bar.setAttribute("aria-valuenow", Math.round(100 * share));
  bar.setAttribute("aria-valuetext", `${phaseText(frame)}, ${numbersText(frame)}`);
  const mark = bar.querySelector(".progress-stage");
  mark.hidden = !frame.stage;
  mark.style.left = `${100 * (frame.stage?.begins ?? 0)}%`;
  bar.firstElementChild.style.transform = `scaleX(${share})`;
}

function showNotice(message) {
  const shown = message && message.number !== dismissed;
  notice.hidden = !shown;
  if (!shown || notice.dataset.number === String(message.number)) return;
  notice.dataset.number = message.number;
  noticedAt = performance.now();
  notice.dataset.kind = message.kind;
  const urgent = message.kind === "error";
  notice.querySelector(".notice-urgent").textContent = urgent ? message.text : "";
  notice.querySelector(".notice-polite").textContent = urgent ? "" : message.text;
}

// Offered where it is worth it; the browser asks a person only after the click.
const notify = element.querySelector('[data-role="notify"]');
notify.addEventListener("click", async () => {
  await Notification.requestPermission();
  notify.hidden = true;
});

function offerNotification(frame) {
  const isLong = frame.left !== null && frame.left > 45 && ["running", "loading"].includes(frame.phase);
  notify.hidden = !isLong || !("Notification" in window) || Notification.permission !== "default";
}

// What can be done with all results at once, where a run has ended.
for (const [event, words] of Object.entries(ofAll)) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button quiet small of-all";
  button.dataset.role = event;
  button.textContent = words;
  button.hidden = true;
  button.addEventListener("click", () => trigger(event));
  element.querySelector(".save-all").before(button);
}

function paintStatus(frame) {
  results.dataset.phase = frame.phase;
  results.dataset.run = frame.run ?? "";
  const phase = phaseText(frame);
  element.querySelector(".status-phase").textContent = phase;
  element.querySelector(".status-numbers").textContent = numbersText(frame);
  const words = element.querySelector(".status-words");
  words.textContent = words.title = wordsText(frame);
  words.hidden = !words.textContent;
  words.classList.toggle("is-aim", !frame.prompt && Boolean(frame.aim)); // a sentence, to be read whole
  const hasPictures = Object.keys(frame.sides ?? {}).length > 0;
  element.querySelector(".save-all").hidden = !hasPictures;
  const hasEnded = hasPictures && ["done", "stopped", "failed"].includes(frame.phase);
  for (const button of element.querySelectorAll(".of-all")) button.hidden = !hasEnded;
  const anew = element.querySelector('[data-role="draw_anew"]');
  if (anew) anew.hidden = !hasEnded || !frame.marks?.some((names) => names.length);
  paintProgress(frame);
  offerNotification(frame);
  showNotice(frame.notice);
  if (phase !== announced) { // said once per phase, not once per step
    announced = phase;
    element.querySelector(".announcer").textContent = phase;
  }
}

// What was said of the controls as they were is of no use once they are different. Gradio tells of a change late, perhaps
// after what was said of it.
document.addEventListener("studio:controls", (event) => {
  if (event.detail.task !== task || !feed.frame.notice?.of_controls || event.detail.actedAt < noticedAt) return;
  dismissed = feed.frame.notice.number;
  showNotice(null);
});
element.querySelector('[data-role="dismiss"]').addEventListener("click", () => {
  dismissed = Number(notice.dataset.number);
  if (feed.frame.phase === "idle") sessionStorage.removeItem(RUN_KEY); // a lost run was told
  notice.hidden = true;
});
