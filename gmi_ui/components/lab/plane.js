// Draws one plane: density, trails, arrows, particles. The same list of marks makes the canvas and the SVG.
const TRAIL = 9; // steps
const FAR = 0.6; // a move in one step beyond this is a jump: nothing was in between
const ARROW = 0.2; // of the plane's unit, for a typical vector at the beginning
const LONGEST_ARROW = 0.5;
const ROLES = ["A", "B", "C"];
const probe = document.createElement("span");
probe.hidden = true;
element.append(probe);

// A colour of the style sheet as numbers, whatever it is written as.
function colour(name) {
  return getComputedStyle(element.querySelector(".lab")).getPropertyValue(name).trim();
}

function rgb(text) {
  probe.style.color = text;
  return getComputedStyle(probe).color.match(/[\d.]+/g).map(Number);
}

const palette = {};

function readPalette() {
  for (const name of ["ground", "low", "high", "A", "B", "C", "left", "right", "rim", "ink", "soft", "line", "card"]) {
    palette[name] = colour(`--lab-${name}`);
  }
}

// The density as a picture of its own: from the ground through one colour to another.
function densityPicture({ cells, side }) {
  const picture = document.createElement("canvas");
  picture.width = picture.height = side;
  const context = picture.getContext("2d");
  const image = context.createImageData(side, side);
  const [ground, low, high] = ["ground", "low", "high"].map((name) => rgb(palette[name]));
  for (let i = 0; i < cells.length; i += 1) {
    const share = cells[i] / 255;
    const [from, to, t] = share < 0.5 ? [ground, low, 2 * share] : [low, high, 2 * share - 1];
    for (let c = 0; c < 3; c += 1) image.data[4 * i + c] = from[c] + (to[c] - from[c]) * t;
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return picture;
}

const farOf = (side) => (words.choosing.includes(side.sampler) ? 0 : FAR);

// Positions between two steps. A particle that jumps is where it was, and then where it is.
function positionsAt(side, at) {
  const { frames } = side;
  const index = Math.min(Math.floor(at), frames.length - 1);
  const [from, to] = [frames[index].positions, frames[Math.min(index + 1, frames.length - 1)].positions];
  const t = at - index;
  if (t <= 0 || from === to) return from;
  const between = new Float32Array(from.length);
  const far = farOf(side);
  for (let i = 0; i < from.length; i += 2) {
    const [dx, dy] = [to[i] - from[i], to[i + 1] - from[i + 1]];
    const share = Math.abs(dx) + Math.abs(dy) > far ? Math.round(t) : t;
    between[i] = from[i] + share * dx;
    between[i + 1] = from[i + 1] + share * dy;
  }
  return between;
}

function radiusOf(count, size) {
  return (size / 130) * Math.min(1.6, Math.max(0.45, (200 / count) ** 0.3));
}

function trailsOf(side, at, positions) {
  const { frames } = side;
  const paths = [];
  const far = farOf(side);
  const last = Math.min(Math.floor(at), frames.length - 1);
  const first = Math.max(0, last - TRAIL + 1);
  for (let i = 0; i < positions.length; i += 2) {
    let path = [[positions[i], positions[i + 1]]];
    for (let k = last; k >= first; k -= 1) {
      const [x, y] = [frames[k].positions[i], frames[k].positions[i + 1]];
      const [lastX, lastY] = path.at(-1);
      if (Math.abs(x - lastX) + Math.abs(y - lastY) > far) break;
      path.push([x, y]);
    }
    if (path.length > 1) paths.push(path);
  }
  return paths;
}

function arrowsOf(frame, positions, role, reach) {
  const offset = (frame.vectors.length / 3) * ROLES.indexOf(role);
  const arrows = [];
  for (let i = 0; i < positions.length; i += 2) {
    const [vx, vy] = [frame.vectors[offset + i], frame.vectors[offset + i + 1]];
    const length = Math.hypot(vx, vy);
    if (length < 1e-4 * reach) continue;
    const drawn = Math.min(LONGEST_ARROW, ARROW * Math.sqrt(length / reach));
    arrows.push([positions[i], positions[i + 1], (vx / length) * drawn, (vy / length) * drawn]);
  }
  return arrows;
}

// Everything on a plane in its own units, for whoever draws it.
function marksOf(side, at, shows) {
  if (!side.frames.length) return { positions: new Float32Array(), trails: [], arrows: {} };
  const positions = positionsAt(side, at);
  const frame = side.frames[Math.min(Math.floor(at), lastOf(side))];
  const arrows = {};
  for (const role of ROLES) {
    if (shows[role] && frame.vectors && side.reach > 0) arrows[role] = arrowsOf(frame, positions, role, side.reach);
  }
  return { positions, trails: shows.trails ? trailsOf(side, at, positions) : [], arrows };
}

// The density as large as a plane: to enlarge it for every picture would take longer than all the rest.
const scaled = new Map();

function scaledTo(size, density) {
  const kept = scaled.get(size);
  if (kept?.density === density) return kept.canvas;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(density, 0, 0, size, size);
  if (scaled.size > 4) scaled.clear();
  scaled.set(size, { density, canvas });
  return canvas;
}

const rimOf = (radius) => Math.max(0.8, 0.3 * radius);

// One particle, drawn once and then copied.
function spriteOf(radius, name) {
  const rim = rimOf(radius);
  const sprite = document.createElement("canvas");
  sprite.width = sprite.height = 2 * Math.ceil(radius + rim);
  const context = sprite.getContext("2d");
  context.fillStyle = palette[name];
  context.strokeStyle = palette.rim;
  context.lineWidth = rim;
  context.arc(sprite.width / 2, sprite.width / 2, radius, 0, 2 * Math.PI);
  context.fill();
  context.stroke();
  return sprite;
}

function paintPlane(context, size, side, at, shows, density) {
  const scale = size / (2 * props.edge);
  const [x, y] = [(value) => size / 2 + value * scale, (value) => size / 2 - value * scale];
  context.fillStyle = palette.ground;
  context.fillRect(0, 0, size, size);
  if (density && shows.density) context.drawImage(scaledTo(size, density), 0, 0);
  const { positions, trails, arrows } = marksOf(side, at, shows);
  const radius = radiusOf(positions.length / 2, size);
  context.lineJoin = "bevel"; // the cheapest
  context.strokeStyle = palette[side.name];
  context.globalAlpha = 0.34;
  context.lineWidth = 0.55 * radius;
  context.beginPath();
  for (const path of trails) path.forEach(([px, py], k) => (k ? context.lineTo(x(px), y(py)) : context.moveTo(x(px), y(py))));
  context.stroke();
  context.globalAlpha = 1;
  for (const role of ROLES) if (arrows[role]) paintArrows(context, arrows[role], palette[role], size, radius);
  const sprite = spriteOf(radius, side.name);
  for (let i = 0; i < positions.length; i += 2) {
    context.drawImage(sprite, x(positions[i]) - sprite.width / 2, y(positions[i + 1]) - sprite.width / 2);
  }
}

// The lines of an arrow from (px, py) by (dx, dy), a shaft and a head, in pixels of a plane of this size.
function linesOfArrow([px, py, dx, dy], size, radius) {
  const scale = size / (2 * props.edge);
  const [fromX, fromY] = [size / 2 + px * scale, size / 2 - py * scale];
  const [toX, toY] = [fromX + dx * scale, fromY - dy * scale];
  const angle = Math.atan2(toY - fromY, toX - fromX);
  const head = Math.min(Math.max(3, 1.3 * radius), 0.6 * Math.hypot(toX - fromX, toY - fromY));
  const sides = [2.6, -2.6].map((turn) => [toX, toY, toX + head * Math.cos(angle + turn), toY + head * Math.sin(angle + turn)]);
  return [[fromX, fromY, toX, toY], ...sides];
}

const widthOfArrow = (radius) => Math.max(1.1, 0.42 * radius);

function paintArrows(context, arrows, colour, size, radius) {
  context.strokeStyle = colour;
  context.lineWidth = widthOfArrow(radius);
  context.beginPath();
  for (const arrow of arrows) {
    for (const [fromX, fromY, toX, toY] of linesOfArrow(arrow, size, radius)) {
      context.moveTo(fromX, fromY);
      context.lineTo(toX, toY);
    }
  }
  context.stroke();
}
