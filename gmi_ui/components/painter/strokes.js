// The mask as a list of what was done, in the picture's own pixels: undo takes the last one away, and the mask can
// be drawn at any size. A canvas holds it opaque where it is painted, transparent elsewhere.
const MOST_SIDE = 2048; // px of the mask that is sent: larger pictures get it enlarged
const strokes = []; // { kind: "stroke", erase, size, points } | { kind: "clear" } | { kind: "image", image }
const undone = []; // of them, the newest last, to be done again
const TINT = "#e0368c";

function drawStroke(context, stroke, scale, from = 0) {
  const { points } = stroke;
  context.globalCompositeOperation = stroke.erase ? "destination-out" : "source-over";
  context.strokeStyle = TINT;
  context.fillStyle = TINT;
  context.lineCap = "round";
  context.lineJoin = "round";
  context.lineWidth = Math.max(1, stroke.size * scale);
  context.beginPath();
  const first = Math.max(0, from - 1);
  context.moveTo(points[first][0] * scale, points[first][1] * scale);
  context.lineTo(points[first][0] * scale + 0.01, points[first][1] * scale); // a line of no length would not be drawn
  for (let i = first + 1; i < points.length; i += 1) context.lineTo(points[i][0] * scale, points[i][1] * scale);
  context.stroke();
  context.globalCompositeOperation = "source-over";
}

function drawAction(context, action, scale) {
  const { width, height } = context.canvas;
  if (action.kind === "stroke") {
    drawStroke(context, action, scale);
    return;
  }
  context.clearRect(0, 0, width, height);
  if (action.kind === "image") context.drawImage(action.image, 0, 0, width, height);
}

function drawAll(context, scale) {
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  for (const action of strokes) drawAction(context, action, scale);
}

// White where it is painted on black, as a PNG in base64; empty where nothing is painted.
async function maskPng(width, height) {
  if (!strokes.length) return "";
  const scale = Math.min(1, MOST_SIDE / Math.max(width, height));
  const canvas = new OffscreenCanvas(Math.round(width * scale), Math.round(height * scale));
  const context = canvas.getContext("2d");
  drawAll(context, scale);
  context.globalCompositeOperation = "source-in";
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "black";
  context.fillRect(0, 0, canvas.width, canvas.height);
  return base64Of(await canvas.convertToBlob({ type: "image/png" }));
}

function base64Of(blob) {
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.readAsDataURL(blob);
  });
}

// The mask from the server (white on black) as a picture that is as opaque as that is white: soft masks stay soft.
async function maskImage(png) {
  const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const [red, green, blue] = [1, 3, 5].map((i) => parseInt(TINT.slice(i, i + 2), 16));
  for (let i = 0; i < pixels.data.length; i += 4) {
    pixels.data.set([red, green, blue, pixels.data[i]], i);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}
