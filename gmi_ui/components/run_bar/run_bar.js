// Example prompts to click, and the buttons of a run. Which buttons show follows the frames ("studio:frame").
const actions = ["run", "line-up", "pause", "resume", "stop", "continue"];
const button = (action) => element.querySelector(`[data-action="${action}"]`);
const SHOWN = {
  waiting: ["stop", "line-up"],
  loading: ["stop", "line-up"],
  running: ["stop", "pause", "line-up"],
  paused: ["stop", "resume", "line-up"],
  stopping: ["line-up"],
};

function actionsOf(frame) {
  const shown = [...(SHOWN[frame.phase] ?? [])];
  if (frame.goes_on) shown.push("continue");
  const inversion = frame.workspace?.inversion;
  if (inversion && !inversion.is_over && !shown.includes("stop")) shown.push("stop"); // of the search for the picture
  return shown;
}

function showActions(frame) {
  const shown = actionsOf(frame);
  for (const action of actions.slice(1)) {
    const isShown = shown.includes(action);
    // A hidden button loses the focus: keep a keyboard user on the bar.
    if (!isShown && document.activeElement === button(action)) button("run").focus();
    button(action).hidden = !isShown;
    button(action).disabled = !isShown;
  }
  element.querySelector(".run-bar").dataset.phase = frame.phase;
  markControls(frame);
}

// While a run goes on, says which controls it follows: what is set in the others counts from the next one.
function markControls(frame) {
  const tab = element.closest(".tabitem");
  if (!tab) return;
  const goesOn = ["waiting", "loading", "running", "paused", "stopping"].includes(frame.phase);
  tab.classList.toggle("is-going-on", goesOn);
  const live = goesOn ? frame.live ?? [] : [];
  const followed = live.map((name) => tab.querySelector(`[id="${controlId(name)}"]`)).filter(Boolean);
  for (const control of tab.querySelectorAll(".is-live")) {
    if (!followed.includes(control)) control.classList.remove("is-live");
  }
  for (const control of followed) control.classList.add("is-live");
  const settings = tab.querySelector(".studio-settings");
  if (!settings) return;
  settings.dataset.told = followed.length
    ? "The run follows the marked sliders. All else counts from the next run."
    : "The run goes on as it was started. What you set here counts from the next one.";
}

function controlId(name) {
  const prefix = props.task === "generate" ? "control" : `${props.task}-control`;
  return `${prefix}-${name.replaceAll("_", "-")}`;
}

function showExamples() {
  const place = element.querySelector(".run-bar-examples");
  const chips = (props.value?.examples ?? []).map((text) => {
    const chip = document.createElement("button");
    chip.type = "button";
    chip.className = "chip";
    chip.textContent = text;
    chip.addEventListener("click", () => {
      trigger("pick", { text });
      element.closest(".studio-prompt")?.querySelector("textarea")?.focus();
    });
    return chip;
  });
  place.replaceChildren(...chips);
}

// Whoever holds something that the run needs (a painted mask) hands it in first.
async function run(event) {
  const waits = [];
  const detail = { task: props.task, waitUntil: (promise) => waits.push(promise) };
  document.dispatchEvent(new CustomEvent("studio:before-run", { detail }));
  await Promise.all(waits);
  trigger(event);
}

button("run").addEventListener("click", () => run("run"));
button("line-up").addEventListener("click", () => run("line_up"));
for (const action of actions.slice(2)) {
  button(action).addEventListener("click", () => {
    document.dispatchEvent(new CustomEvent("studio:command", { detail: { task: props.task, action } }));
  });
}
document.addEventListener("studio:frame", (event) => {
  if (event.detail.task === props.task) showActions(event.detail);
});
watch("value", showExamples);
showActions({ phase: "idle" });
showExamples();
