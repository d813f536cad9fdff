// Example prompts to click, and the buttons of a run. Which buttons show follows the frames ("studio:frame").
const actions = ["run", "pause", "resume", "stop"];
const button = (action) => element.querySelector(`[data-action="${action}"]`);
const SHOWN = {
  waiting: ["stop"],
  loading: ["stop"],
  running: ["stop", "pause"],
  paused: ["stop", "resume"],
  stopping: [],
};

function showActions(phase) {
  const shown = SHOWN[phase] ?? [];
  for (const action of actions.slice(1)) {
    const isShown = shown.includes(action);
    // A hidden button loses the focus: keep a keyboard user on the bar.
    if (!isShown && document.activeElement === button(action)) button("run").focus();
    button(action).hidden = !isShown;
    button(action).disabled = !isShown;
  }
  element.querySelector(".run-bar").dataset.phase = phase;
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
      window.studio.focusPrompt();
    });
    return chip;
  });
  place.replaceChildren(...chips);
}

button("run").addEventListener("click", () => trigger("run"));
for (const action of ["pause", "resume", "stop"]) {
  button(action).addEventListener("click", () => {
    document.dispatchEvent(new CustomEvent("studio:command", { detail: { action } }));
  });
}
document.addEventListener("studio:frame", (event) => showActions(event.detail.phase));
watch("value", showExamples);
showActions("idle");
showExamples();
