// The stage: the picture, the mask over it, the brush. Painting touches one canvas of the stage's size and nothing
// else, so its cost does not depend on the picture's.
const HAND_IN_AFTER = 500; // ms without a stroke
const TOOL_KEYS = { b: "brush", e: "eraser", h: "hand" };
const MOST_CANVAS = 4096; // px of a side, however far it is zoomed

const scale = () => maskCanvas.width / current.width;
// In the picture's pixels: on the page the brush stays as large when it is zoomed, for the details.
const brushSize = () => Math.max(1, ((Number(sizeSlider.value) / 100) * Math.min(current.width, current.height)) / view.scale);
const ask = (more) => ({ token: window.studio.token, number: current.number, ...more });

// --- painting

function place(event) {
  const box = maskCanvas.getBoundingClientRect();
  return [
    ((event.clientX - box.left) / box.width) * current.width,
    ((event.clientY - box.top) / box.height) * current.height,
  ];
}

function begin(event) {
  if (event.button > 1 || current.number === null) return;
  event.preventDefault();
  maskCanvas.setPointerCapture(event.pointerId);
  if (beginsToMove(event)) {
    dropStroke();
    return;
  }
  const erase = current.erases || event.buttons === 32; // the eraser end of a pen
  current.stroke = { kind: "stroke", erase, size: brushSize(), points: [place(event)] };
  strokes.push(current.stroke);
  drawStroke(context, current.stroke, scale());
  painter.dataset.painting = "";
}

// A second finger came down: the two were to move the picture.
function dropStroke() {
  if (!current.stroke) return;
  strokes.splice(strokes.indexOf(current.stroke), 1);
  current.stroke = null;
  delete painter.dataset.painting;
  redraw();
}

function extend(event) {
  moveCursor(event);
  if (moves(event) || !current.stroke) return;
  const from = current.stroke.points.length;
  const events = event.getCoalescedEvents?.() ?? [];
  for (const one of events.length ? events : [event]) current.stroke.points.push(place(one));
  drawStroke(context, current.stroke, scale(), from);
}

function end(event) {
  endsToMove(event);
  if (!current.stroke) return;
  current.stroke = null;
  delete painter.dataset.painting;
  undone.length = 0;
  changed();
}

function moveCursor(event) {
  const box = stage.getBoundingClientRect();
  const side = (brushSize() / current.width) * box.width * view.scale;
  cursor.hidden = event.pointerType === "touch" || moving.byKey || moving.byTool;
  cursor.style.width = `${side}px`;
  cursor.style.height = `${side}px`;
  cursor.style.transform = `translate(${event.clientX - box.left - side / 2}px, ${event.clientY - box.top - side / 2}px)`;
}

maskCanvas.addEventListener("pointerdown", begin);
maskCanvas.addEventListener("pointermove", extend);
maskCanvas.addEventListener("pointerup", end);
maskCanvas.addEventListener("pointercancel", end);
maskCanvas.addEventListener("pointerleave", () => { cursor.hidden = true; });

// --- the mask after a change

function changed() {
  current.dirty = true;
  clearTimeout(current.timer);
  current.timer = setTimeout(handIn, HAND_IN_AFTER);
  tellSteps();
  requestAnimationFrame(paintHalo);
}

// One after the other: an older mask must not arrive after a newer one.
let handing = Promise.resolve();
function handIn() {
  clearTimeout(current.timer);
  handing = handing.catch(() => {}).then(sendMask);
  return handing;
}

async function sendMask() {
  if (!current.dirty || current.number === null) return;
  current.dirty = false;
  const { number } = current;
  const png = await maskPng(current.width, current.height);
  await server.put_mask(ask({ number, png }));
}

function redraw() {
  drawAll(context, scale());
  tellSteps();
  paintHalo();
}

// What grow and invert make of the mask, and over it, darker, what of that is repainted in full: the feather is paler.
function paintHalo() {
  const { feather, invert } = effects();
  const halo = haloCanvas.getContext("2d");
  halo.clearRect(0, 0, haloCanvas.width, haloCanvas.height);
  const used = effective(maskCanvas, scale()) ?? maskCanvas;
  const ratio = stage.clientWidth / current.width;
  haloCanvas.style.filter = feather > 0 ? `blur(${((feather / 4) * ratio).toFixed(2)}px)` : "";
  painter.classList.toggle("is-inverted", invert);
  halo.drawImage(feather > 0 ? shrunk(used, Math.round((feather / 2) * scale())) : used, 0, 0);
  tellShare(used);
}

function tellSteps() {
  painter.querySelector('[data-role="undo"]').disabled = !strokes.length;
  painter.querySelector('[data-role="redo"]').disabled = !undone.length;
  painter.querySelector('[data-role="clear"]').disabled = !strokes.length || strokes.at(-1).kind === "clear";
}

// Counted on a small copy.
function tellShare(canvas) {
  const small = new OffscreenCanvas(96, 96);
  const view = small.getContext("2d", { willReadFrequently: true });
  view.drawImage(canvas, 0, 0, 96, 96);
  const { data } = view.getImageData(0, 0, 96, 96);
  let painted = 0;
  for (let i = 3; i < data.length; i += 4) painted += data[i];
  const share = painted / (255 * 96 * 96);
  const status = painter.querySelector(".painter-status");
  const size = `${current.width} x ${current.height}`;
  if (share === 0) status.textContent = `${size}. Paint over what is to change.`;
  else if (share > 0.998) status.textContent = `${size}. All of it is repainted: nothing of the picture is kept.`;
  else status.textContent = `${size}. ${share < 0.01 ? "Under 1" : Math.round(100 * share)} % is repainted.`;
}

// --- tools

function choose(tool) {
  current.erases = tool === "eraser";
  moving.byTool = tool === "hand";
  showView();
  for (const button of painter.querySelectorAll(".tool")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
  }
}

function undo() {
  if (!strokes.length || current.stroke) return;
  undone.push(strokes.pop());
  redraw();
  changed();
}

function redo() {
  if (!undone.length || current.stroke) return;
  strokes.push(undone.pop());
  redraw();
  changed();
}

function clearMask() {
  if (!strokes.length) return;
  strokes.push({ kind: "clear" });
  undone.length = 0;
  redraw();
  changed();
}

function enlarge(event) {
  const isLarge = painter.closest(".studio-body").classList.toggle("has-large-painter");
  event.currentTarget.setAttribute("aria-pressed", String(isLarge));
}

painter.querySelector(".link-button").addEventListener("click", () => window.studio.openPicture());
for (const button of painter.querySelectorAll(".tool")) button.addEventListener("click", () => choose(button.dataset.tool));
painter.querySelector('[data-role="undo"]').addEventListener("click", undo);
painter.querySelector('[data-role="redo"]').addEventListener("click", redo);
painter.querySelector('[data-role="clear"]').addEventListener("click", clearMask);
painter.querySelector('[data-role="enlarge"]').addEventListener("click", enlarge);
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest?.('textarea, input:not([type="range"])');
  if (isTyping || stage.offsetParent === null || current.number === null) return;
  const key = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    if (key === "y" || event.shiftKey) redo();
    else undo();
  } else if (event.altKey || event.target.closest?.("button, a, [role=tab]")) {
    return; // whose own keys these are
  } else if (key === " ") {
    event.preventDefault();
    moving.byKey = true;
    showView();
  } else if (key === "[" || key === "]") {
    sizeSlider.value = Number(sizeSlider.value) + (key === "]" ? 2 : -2);
  } else if (key in TOOL_KEYS) {
    choose(TOOL_KEYS[key]);
  } else if (key === "+" || key === "-" || key === "0") {
    zoomTo(key === "0" ? 1 : view.scale * (key === "+" ? ZOOM_STEP : 1 / ZOOM_STEP));
  }
});
// Grow, feather and invert are ordinary controls; sliders and number boxes speak of a change alike.
document.addEventListener("input", (event) => {
  if (event.target.closest?.(`[id^="${props.control_prefix}-"]`)) requestAnimationFrame(paintHalo);
});

// --- the picture

function fitCanvas() {
  if (!stage.clientWidth) return;
  const longer = Math.max(stage.clientWidth, stage.clientHeight);
  const density = Math.min((window.devicePixelRatio || 1) * view.scale, MOST_CANVAS / longer);
  const [width, height] = [Math.round(stage.clientWidth * density), Math.round(stage.clientHeight * density)];
  if (maskCanvas.width === width && maskCanvas.height === height) return;
  for (const canvas of [maskCanvas, haloCanvas]) Object.assign(canvas, { width, height });
  redraw();
}
new ResizeObserver(() => {
  showView();
  fitCanvas();
}).observe(stage);

async function showPicture({ current: number, name, width, height, mask }) {
  await handIn(); // of the picture before
  strokes.length = undone.length = 0;
  resetView();
  Object.assign(current, { number, width, height, maskNumber: mask, stroke: null, dirty: false });
  stage.style.setProperty("--ratio", width / height);
  stage.style.aspectRatio = `${width} / ${height}`;
  picture.removeAttribute("src");
  picture.alt = name;
  fitCanvas();
  redraw();
  const answer = await server.version_picture(ask());
  if (answer?.jpeg && current.number === number) picture.src = `data:image/jpeg;base64,${answer.jpeg}`;
  await fetchMask(number);
}

// A mask from elsewhere takes the place of what was painted; undo brings that back.
async function fetchMask(number) {
  const answer = await server.mask_of_version(ask({ number }));
  if (current.number !== number || !answer?.png) return;
  const image = await maskImage(answer.png);
  if (current.number !== number) return;
  strokes.push({ kind: "image", image });
  undone.length = 0;
  redraw();
}

function paint(frame) {
  const content = frame.workspace;
  painter.dataset.state = content ? "open" : "empty";
  if (!content) {
    current.number = null;
    return;
  }
  if (content.current !== current.number) showPicture(content);
  else if (content.mask !== current.maskNumber) {
    current.maskNumber = content.mask;
    fetchMask(content.current);
  }
  const verdict = painter.querySelector(".painter-verdict");
  verdict.hidden = !content.told;
  if (verdict.textContent !== content.told) verdict.textContent = content.told;
  paintVariations(content.variations);
}

document.addEventListener("studio:frame", (event) => {
  if (event.detail.task === props.task) paint(event.detail);
});
document.addEventListener("studio:before-run", (event) => {
  if (event.detail.task === props.task) event.detail.waitUntil(handIn());
});
