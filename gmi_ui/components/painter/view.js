// What of the picture is seen: zoomed with the buttons, the wheel and Ctrl, or two fingers; moved with the hand, the space
// bar, the middle button, or two fingers. The sheet, which holds picture and mask, is transformed; nothing is redrawn for it.
const MOST_ZOOM = 16;
const ZOOM_STEP = 1.5;
const view = { scale: 1, x: 0, y: 0 }; // x, y: px of the stage by which the sheet is moved
const fingers = new Map(); // pointers on the stage by their id: [x, y] in px of the stage
const moving = { isOn: false, byKey: false, byTool: false, hadTwo: false };

const stagePlace = (event) => {
  const box = stage.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};

// The sheet always fills the stage.
function showView() {
  const room = (length) => length * (view.scale - 1);
  view.x = Math.min(0, Math.max(-room(stage.clientWidth), view.x));
  view.y = Math.min(0, Math.max(-room(stage.clientHeight), view.y));
  sheet.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
  const percent = `${Math.round(100 * view.scale)} %`;
  zoomText.textContent = percent;
  zoomText.setAttribute("aria-label", `Zoom ${percent}: show all of the picture`);
  painter.querySelector('[data-role="zoom-out"]').disabled = view.scale <= 1;
  painter.querySelector('[data-role="zoom-in"]').disabled = view.scale >= MOST_ZOOM;
  painter.classList.toggle("is-moving", moving.byKey || moving.byTool);
}

// `around`, in px of the stage, stays where it is.
function zoomTo(scale, around = [stage.clientWidth / 2, stage.clientHeight / 2]) {
  const next = Math.min(MOST_ZOOM, Math.max(1, scale));
  const ratio = next / view.scale;
  view.x = around[0] - (around[0] - view.x) * ratio;
  view.y = around[1] - (around[1] - view.y) * ratio;
  view.scale = next;
  showView();
  requestAnimationFrame(fitCanvas);
}

function moveBy(x, y) {
  view.x += x;
  view.y += y;
  showView();
}

function resetView() {
  Object.assign(view, { scale: 1, x: 0, y: 0 });
  showView();
}

// --- pointers

const middle = () => {
  const places = [...fingers.values()];
  return [0, 1].map((axis) => places.reduce((sum, place) => sum + place[axis], 0) / places.length);
};
const spread = () => {
  const [[ax, ay], [bx, by]] = [...fingers.values()];
  return Math.max(1, Math.hypot(ax - bx, ay - by));
};

// Whether a pointer that came down moves the view, rather than paints.
function beginsToMove(event) {
  fingers.set(event.pointerId, stagePlace(event));
  if (fingers.size >= 2) moving.hadTwo = true;
  moving.isOn = fingers.size >= 2 || event.button === 1 || moving.byKey || moving.byTool;
  return moving.isOn;
}

// Whether a pointer's move was one of the view.
function moves(event) {
  if (!fingers.has(event.pointerId)) return false;
  if (!moving.isOn) {
    fingers.set(event.pointerId, stagePlace(event));
    return moving.hadTwo;
  }
  const [before, width] = [middle(), fingers.size === 2 ? spread() : 0];
  fingers.set(event.pointerId, stagePlace(event));
  const now = middle();
  moveBy(now[0] - before[0], now[1] - before[1]);
  if (fingers.size === 2) zoomTo((view.scale * spread()) / width, now);
  return true;
}

function endsToMove(event) {
  fingers.delete(event.pointerId);
  if (fingers.size === 0) Object.assign(moving, { isOn: false, hadTwo: false });
}

stage.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && !event.metaKey) return; // the wheel alone scrolls the page
  event.preventDefault();
  zoomTo(view.scale * Math.exp(-event.deltaY / 300), stagePlace(event));
}, { passive: false });
painter.querySelector('[data-role="zoom-in"]').addEventListener("click", () => zoomTo(view.scale * ZOOM_STEP));
painter.querySelector('[data-role="zoom-out"]').addEventListener("click", () => zoomTo(view.scale / ZOOM_STEP));
zoomText.addEventListener("click", () => zoomTo(1));
document.addEventListener("keyup", (event) => {
  if (event.key !== " " || !moving.byKey) return;
  moving.byKey = false;
  showView();
});
