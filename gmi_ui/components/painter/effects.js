// What grow, feather and invert make of the mask, for the eye: the engine does it exactly, in the picture's pixels.
function control(name) {
  const root = document.getElementById(`${props.control_prefix}-${name}`);
  return root?.querySelector('input[type="range"], input[type="checkbox"]');
}

const effects = () => ({
  grow: Number(control("grow")?.value ?? 0),
  feather: Number(control("feather")?.value ?? 0),
  invert: Boolean(control("invert")?.checked),
});

function like(canvas) {
  return new OffscreenCanvas(canvas.width, canvas.height);
}

function inverted(canvas) {
  const result = like(canvas);
  const context = result.getContext("2d");
  context.fillStyle = TINT;
  context.fillRect(0, 0, result.width, result.height);
  context.globalCompositeOperation = "destination-out";
  context.drawImage(canvas, 0, 0);
  return result;
}

// Every point at most `radius` away along rows and columns: the copies double in reach with every pass.
function grown(canvas, radius) {
  let result = canvas;
  for (const [x, y] of [[1, 0], [0, 1]]) {
    let reach = 0;
    while (reach < radius) {
      const move = Math.min(Math.max(1, reach), radius - reach);
      const next = like(result);
      const context = next.getContext("2d");
      context.drawImage(result, x * move, y * move);
      context.drawImage(result, -x * move, -y * move);
      if (reach === 0) context.drawImage(result, 0, 0);
      result = next;
      reach += move;
    }
  }
  return result;
}

const shrunk = (canvas, radius) => (radius > 0 ? inverted(grown(inverted(canvas), radius)) : canvas);

// The mask as it will be used; null where the plain one is.
function effective(canvas, scale) {
  const { grow, invert } = effects();
  const radius = Math.round(Math.abs(grow) * scale);
  let result = invert ? inverted(canvas) : canvas;
  if (radius > 0) result = grow > 0 ? grown(result, radius) : shrunk(result, radius);
  return result === canvas ? null : result;
}
