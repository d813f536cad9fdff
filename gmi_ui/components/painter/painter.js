// The stage: the picture, the mask over it, the brush. Painting touches one canvas of the stage's size and nothing
// else, so its cost does not depend on the picture's.
const painter = element.querySelector(".painter");
const stage = painter.querySelector(".painter-stage");
const picture = painter.querySelector(".painter-picture");
const maskCanvas = painter.querySelector(".painter-mask");
const haloCanvas = painter.querySelector(".painter-halo");
const cursor = painter.querySelector(".painter-cursor");
const sizeSlider = painter.querySelector(".painter-size input");
const context = maskCanvas.getContext("2d");
const HAND_IN_AFTER = 500; // ms without a stroke
const current = { number: null, maskNumber: 0, width: 1, height: 1, stroke: null, erases: false, dirty: false, timer: 0 };

const scale = () => maskCanvas.width / current.width;
const brushSize = () => Math.max(1, (Number(sizeSlider.value) / 100) * Math.min(current.width, current.height));
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
  if (event.button > 0 || current.number === null) return;
  event.preventDefault();
  maskCanvas.setPointerCapture(event.pointerId);
  const erase = current.erases || event.buttons === 32; // the eraser end of a pen
  current.stroke = { kind: "stroke", erase, size: brushSize(), points: [place(event)] };
  strokes.push(current.stroke);
  drawStroke(context, current.stroke, scale());
  painter.dataset.painting = "";
}

function extend(event) {
  moveCursor(event);
  if (!current.stroke) return;
  const from = current.stroke.points.length;
  const events = event.getCoalescedEvents?.() ?? [];
  for (const one of events.length ? events : [event]) current.stroke.points.push(place(one));
  drawStroke(context, current.stroke, scale(), from);
}

function end() {
  if (!current.stroke) return;
  current.stroke = null;
  delete painter.dataset.painting;
  changed();
}

function moveCursor(event) {
  const box = stage.getBoundingClientRect();
  const side = (brushSize() / current.width) * box.width;
  cursor.hidden = event.pointerType === "touch";
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
  requestAnimationFrame(paintHalo);
}

async function handIn() {
  clearTimeout(current.timer);
  if (!current.dirty || current.number === null) return;
  current.dirty = false;
  const { number } = current;
  const png = await maskPng(current.width, current.height);
  await server.put_mask(ask({ number, png }));
}

function redraw() {
  drawAll(context, scale());
  paintHalo();
}

// What grow, feather and invert add to the mask, paler than the mask itself.
function paintHalo() {
  const { feather, invert } = effects();
  const halo = haloCanvas.getContext("2d");
  halo.clearRect(0, 0, haloCanvas.width, haloCanvas.height);
  const used = effective(maskCanvas, scale());
  const ratio = stage.clientWidth / current.width;
  haloCanvas.style.filter = feather > 0 ? `blur(${((feather / 2) * ratio).toFixed(2)}px)` : "";
  painter.classList.toggle("is-inverted", invert);
  if (used || feather > 0) halo.drawImage(used ?? maskCanvas, 0, 0);
  tellShare(used ?? maskCanvas);
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
  for (const button of painter.querySelectorAll(".tool")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
  }
}

function undo() {
  if (!strokes.length) return;
  strokes.pop();
  redraw();
  changed();
}

function clearMask() {
  if (!strokes.length) return;
  strokes.push({ kind: "clear" });
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
painter.querySelector('[data-role="clear"]').addEventListener("click", clearMask);
painter.querySelector('[data-role="enlarge"]').addEventListener("click", enlarge);
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest?.('textarea, input:not([type="range"])');
  if (isTyping || stage.offsetParent === null || current.number === null) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
    event.preventDefault();
    undo();
  } else if (event.key === "[" || event.key === "]") {
    sizeSlider.value = Number(sizeSlider.value) + (event.key === "]" ? 2 : -2);
  } else if (event.key === "b" || event.key === "e") {
    choose(event.key === "b" ? "brush" : "eraser");
  }
});
// Grow, feather and invert are ordinary controls; sliders and number boxes speak of a change alike.
document.addEventListener("input", (event) => {
  if (event.target.closest?.(`[id^="${props.control_prefix}-"]`)) requestAnimationFrame(paintHalo);
});

// --- the picture

function fitCanvas() {
  if (!stage.clientWidth) return;
  const density = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(stage.clientWidth * density), Math.round(stage.clientHeight * density)];
  if (maskCanvas.width === width && maskCanvas.height === height) return;
  for (const canvas of [maskCanvas, haloCanvas]) Object.assign(canvas, { width, height });
  redraw();
}
new ResizeObserver(fitCanvas).observe(stage);

async function showPicture({ current: number, name, width, height, mask }) {
  await handIn(); // of the picture before
  strokes.length = 0;
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

async function fetchMask(number) {
  const answer = await server.mask_of_version(ask({ number }));
  if (current.number !== number || !answer) return;
  strokes.length = 0;
  if (answer.png) strokes.push({ kind: "image", image: await maskImage(answer.png) });
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
  paintVariations(content.variations);
}

document.addEventListener("studio:frame", (event) => {
  if (event.detail.task === props.task) paint(event.detail);
});
document.addEventListener("studio:before-run", (event) => {
  if (event.detail.task === props.task) event.detail.waitUntil(handIn());
});
