// Follows the frames: which picture, how it is drawn by the model, how far apart the two are.
const workspace = element.querySelector(".workspace");
const part = (name) => workspace.querySelector(`.${name}`);
const shown = { number: null };

async function showOwn(number) {
  if (shown.number === number) return;
  shown.number = number;
  const picture = part("workspace-own");
  picture.removeAttribute("src");
  const answer = await server.version_picture({ token: window.studio.token, number });
  if (answer?.jpeg && shown.number === number) picture.src = `data:image/jpeg;base64,${answer.jpeg}`;
}

function stateOf({ inversion, start }) {
  if (inversion && !inversion.is_over) return "finding";
  if (inversion?.phase === "failed") return "failed";
  return start ? "found" : "unknown";
}

function statusText(state, { inversion, start }) {
  if (state === "finding") {
    if (inversion.phase === "waiting") return inversion.place > 0 ? "Waits for the run before it" : "Waits for its turn";
    if (!start || !inversion.total) return inversion.doing || "Loading the models";
    return `Finding it in the model: step ${inversion.step} of ${inversion.total}, distance ${start.distance.toFixed(3)}`;
  }
  if (state === "failed") return "It could not be found in the model. Open it again, or try another picture.";
  if (props.task === "translate") return "The square in its middle is translated.";
  if (state === "unknown") return "It is found in the model when you press Run.";
  if (!inversion) return "The model made this picture: it is known exactly.";
  const stopped = inversion.phase === "stopped" ? `Stopped at step ${inversion.step}. ` : "";
  return `${stopped}Distance ${start.distance.toFixed(3)} (0: no difference)`;
}

function paint(frame) {
  const content = frame.workspace;
  const state = content ? stateOf(content) : "empty";
  workspace.dataset.state = state;
  if (!content) {
    shown.number = null;
    return;
  }
  showOwn(content.current);
  part("workspace-own").alt = content.name;
  const { start, inversion } = content;
  const model = part("workspace-model");
  model.hidden = !start;
  const isAlone = props.task === "translate" || (state === "found" && !inversion);
  workspace.classList.toggle("is-alone", isAlone); // one picture says it all
  if (start) model.src = `data:image/jpeg;base64,${start.cell}`;
  model.alt = "The picture as the model draws it";
  part("workspace-status").textContent = statusText(state, content);
  const searched = inversion?.total ? inversion.step / inversion.total : (inversion?.share ?? 0);
  const share = state === "finding" ? searched : 0;
  part("progress").hidden = state !== "finding";
  part("progress").setAttribute("aria-valuenow", Math.round(100 * share));
  part("progress-fill").style.transform = `scaleX(${share})`;
  const verdict = part("workspace-verdict");
  verdict.hidden = state === "finding" || !content.told;
  verdict.textContent = content.told;
}

part("link-button").addEventListener("click", () => window.studio.openPicture());
document.addEventListener("studio:frame", (event) => {
  if (event.detail.task === props.task) paint(event.detail);
});
