
// Which square of the picture is translated: a face that is far away, or not in the middle. Shown on the picture, where
// it can be dragged, too; the square becomes a picture of its own, from which the whole one can be returned to.
const cutting = part("workspace-cut");
const frame = part("workspace-square");
const slider = (name) => cutting.querySelector(`[name="${name}"]`);
const share = (name) => Number(slider(name).value) / 100;

// The picture's and the square's place in the sheet, which is a square itself; in shares of its side.
function places() {
  const { naturalWidth, naturalHeight } = part("workspace-own");
  const longer = Math.max(naturalWidth, naturalHeight, 1);
  const [width, height] = [naturalWidth / longer, naturalHeight / longer];
  const side = share("share") * Math.min(width, height);
  return { left: (1 - width) / 2, top: (1 - height) / 2, free: [width - side, height - side], side };
}

function showSquare() {
  frame.hidden = !cutting.open;
  const { left, top, free, side } = places();
  const percent = (value) => `${100 * value}%`;
  frame.style.left = percent(left + share("across") * free[0]);
  frame.style.top = percent(top + share("down") * free[1]);
  frame.style.width = frame.style.height = percent(side);
}

// Its middle comes to where the pointer is.
function dragSquare(event) {
  if (!cutting.open || !event.buttons) return;
  const sheet = part("workspace-sheet").getBoundingClientRect();
  const { left, top, free, side } = places();
  const to = (at, edge, room) => Math.round(room > 0 ? (100 * (at - edge - side / 2)) / room : 50);
  slider("across").value = to((event.clientX - sheet.left) / sheet.width, left, free[0]);
  slider("down").value = to((event.clientY - sheet.top) / sheet.height, top, free[1]);
  showSquare();
}

async function cutSquare() {
  const place = { across: share("across"), down: share("down"), share: share("share") };
  const isCut = await server.cut_square({ token: window.studio.token, number: shown.number, ...place });
  if (isCut) cutting.open = false;
  document.dispatchEvent(new CustomEvent("studio:wake", { detail: { task: props.task } }));
}

cutting.addEventListener("toggle", showSquare);
cutting.addEventListener("input", showSquare);
for (const type of ["pointerdown", "pointermove"]) part("workspace-sheet").addEventListener(type, dragSquare);
part("workspace-own").addEventListener("load", () => {
  for (const [name, value] of [["share", 100], ["across", 50], ["down", 50]]) slider(name).value = value;
  showSquare();
});
cutting.querySelector('[data-role="cut"]').addEventListener("click", cutSquare);
