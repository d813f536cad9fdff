// A target of one's own: lines drawn with the mouse, a pen or a finger on either plane.
const LEAST_MOVE = 0.03; // of the plane's unit, between two places of a line
const MOST_PLACES = 256; // of a line, as in engine/lab/settings.py
const MOST_LINES = 64;
const isDrawing = () => chosen.target === "drawing";

function placeOfPointer(event, stage) {
  const box = stage.getBoundingClientRect();
  const edge = props.edge;
  const within = (value) => Math.max(-edge, Math.min(edge, Number(value.toFixed(3))));
  return [
    within((2 * (event.clientX - box.left) / box.width - 1) * edge),
    within((1 - (2 * (event.clientY - box.top)) / box.height) * edge),
  ];
}

function listenToStrokes(stage, onStroke) {
  let line = null;
  stage.addEventListener("pointerdown", (event) => {
    if (!isDrawing() || event.button !== 0 || chosen.strokes.length >= MOST_LINES) return;
    stage.setPointerCapture(event.pointerId);
    line = [placeOfPointer(event, stage)];
    chosen.strokes = [...chosen.strokes, line];
    onStroke(false);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!line || line.length >= MOST_PLACES) return;
    const [x, y] = placeOfPointer(event, stage);
    const [lastX, lastY] = line.at(-1);
    if (Math.hypot(x - lastX, y - lastY) < LEAST_MOVE) return;
    line.push([x, y]);
    onStroke(false);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, () => {
      if (line) onStroke(true);
      line = null;
    });
  }
}

// The lines while they are being drawn, before the server has made a density of them.
function paintStrokes(context, size) {
  const scale = size / (2 * props.edge);
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = palette.high;
  context.lineWidth = Math.max(4, 0.12 * scale);
  for (const line of chosen.strokes) {
    context.beginPath();
    const [first] = line;
    context.moveTo(size / 2 + first[0] * scale, size / 2 - first[1] * scale);
    for (const [x, y] of line) context.lineTo(size / 2 + x * scale + 0.01, size / 2 - y * scale);
    context.stroke();
  }
}
