// What is shown as a file: a picture, a drawing, an animation. All are made in the page.
const PICTURE = 900; // pixels of a plane in a picture, in an animation
const ANIMATION = 360;
const HEAD = 0.09; // of a plane: the line above it
const GAP = 0.03;
const MOST_PICTURES = 60; // of an animation
const RESTS = 1500; // ms that its last picture stays

function captionOf(side, at) {
  const frame = side.frames[Math.min(Math.round(at), lastOf(side))];
  if (!frame) return "";
  return `EMD ${frame.distance.toFixed(3)} · ${Math.round(100 * frame.coverage)} % covered · step ${frame.step}`;
}

function saveFile(blob, kind) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  const target = chosen.target.toLowerCase().replaceAll(" ", "-");
  link.download = `lab-${target}-${lab.sides.map((side) => side.sampler.toLowerCase().replaceAll(" ", "-")).join("-")}.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// The planes beside each other, each with a line of words above it.
function compose(plane, at) {
  const [head, gap] = [Math.round(HEAD * plane), Math.round(GAP * plane)];
  const canvas = document.createElement("canvas");
  canvas.width = lab.sides.length * (plane + gap) + gap;
  canvas.height = plane + head + gap;
  const context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = palette.card;
  context.fillRect(0, 0, canvas.width, canvas.height);
  const family = getComputedStyle(element).fontFamily;
  const picture = document.createElement("canvas");
  picture.width = picture.height = plane;
  lab.sides.forEach((side, index) => {
    const left = gap + index * (plane + gap);
    paintPlane(picture.getContext("2d"), plane, side, at, lab.shows, lab.density);
    context.drawImage(picture, left, head);
    context.textBaseline = "middle";
    context.fillStyle = palette.ink;
    context.font = `600 ${Math.round(0.042 * plane)}px ${family}`;
    context.fillText(words.samplers[side.sampler][0], left, head / 2);
    context.textAlign = "right";
    context.fillStyle = palette.soft;
    context.font = `${Math.round(0.034 * plane)}px ${family}`;
    context.fillText(captionOf(side, at), left + plane, head / 2);
    context.textAlign = "left";
  });
  return canvas;
}

const blobOf = (canvas, kind, quality) => new Promise((resolve) => canvas.toBlob(resolve, kind, quality));

async function savePng() {
  saveFile(await blobOf(compose(PICTURE, lab.at), "image/png"), "png");
}

// --- SVG

const short = (value) => value.toFixed(2);
const escaped = (text) => text.replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);

function svgPlane(side, left, top, size) {
  const scale = size / (2 * props.edge);
  const x = (value) => short(size / 2 + value * scale);
  const y = (value) => short(size / 2 - value * scale);
  const { positions, trails, arrows } = marksOf(side, lab.at, lab.shows);
  const radius = radiusOf(positions.length / 2, size);
  const parts = [`<rect width="${size}" height="${size}" fill="${palette.ground}"/>`];
  if (lab.density && lab.shows.density) {
    parts.push(`<image width="${size}" height="${size}" href="${lab.density.toDataURL("image/png")}"/>`);
  }
  const lines = trails.map((path) => `M${path.map(([px, py]) => `${x(px)} ${y(py)}`).join("L")}`).join("");
  parts.push(`<path d="${lines}" fill="none" stroke="${palette[side.name]}" stroke-opacity=".34" stroke-width="${short(0.55 * radius)}" stroke-linecap="round" stroke-linejoin="round"/>`);
  for (const role of ROLES) {
    if (!arrows[role]) continue;
    const lines = arrows[role].flatMap((arrow) => linesOfArrow(arrow, size, radius));
    const path = lines.map((line) => `M${line.slice(0, 2).map(short).join(" ")}L${line.slice(2).map(short).join(" ")}`).join("");
    parts.push(`<path d="${path}" fill="none" stroke="${palette[role]}" stroke-width="${short(widthOfArrow(radius))}"/>`);
  }
  const circles = [];
  for (let i = 0; i < positions.length; i += 2) circles.push(`<circle cx="${x(positions[i])}" cy="${y(positions[i + 1])}" r="${short(radius)}"/>`);
  parts.push(`<g fill="${palette[side.name]}" stroke="${palette.rim}" stroke-width="${short(rimOf(radius))}">${circles.join("")}</g>`);
  return `<svg x="${left}" y="${top}" width="${size}" height="${size}" viewBox="0 0 ${size} ${size}">${parts.join("")}</svg>`;
}

function saveSvg() {
  const size = 600;
  const [head, gap] = [HEAD * size, GAP * size];
  const [width, height] = [lab.sides.length * (size + gap) + gap, size + head + gap];
  const planes = lab.sides.map((side, index) => {
    const left = gap + index * (size + gap);
    const title = `<text x="${left}" y="${head / 2}" font-size="25" font-weight="600" fill="${palette.ink}">${escaped(words.samplers[side.sampler][0])}</text>`;
    const told = `<text x="${left + size}" y="${head / 2}" font-size="20" text-anchor="end" fill="${palette.soft}">${escaped(captionOf(side, lab.at))}</text>`;
    return title + told + svgPlane(side, left, head, size);
  });
  const text = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="system-ui, sans-serif" dominant-baseline="middle"><rect width="100%" height="100%" fill="${palette.card}"/>${planes.join("")}</svg>`;
  saveFile(new Blob([text], { type: "image/svg+xml" }), "svg");
}

// --- an animated WebP: the pictures' own chunks in one container

const letters = (text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));
const little = (value, count) => Uint8Array.from({ length: count }, (_, i) => (value >>> (8 * i)) & 255);

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

function chunk(name, ...parts) {
  const body = joined(parts);
  return joined([letters(name), little(body.length, 4), body, new Uint8Array(body.length % 2)]);
}

// The chunks of a WebP that hold its picture.
function pictureChunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const found = [];
  for (let at = 12; at + 8 <= bytes.length; ) {
    const size = view.getUint32(at + 4, true);
    const name = String.fromCharCode(...bytes.subarray(at, at + 4));
    const end = at + 8 + size + (size % 2);
    if (["VP8 ", "VP8L", "ALPH"].includes(name)) found.push(bytes.subarray(at, end));
    at = end;
  }
  return joined(found);
}

async function saveWebp(tell) {
  const last = Math.max(...lab.sides.map(lastOf));
  const stride = Math.max(1, Math.ceil(last / MOST_PICTURES));
  const steps = Array.from({ length: Math.floor(last / stride) + 1 }, (_, i) => i * stride);
  const pictures = [];
  let size = null;
  for (const step of steps) {
    tell(`${pictures.length} of ${steps.length}`);
    const canvas = compose(ANIMATION, step);
    const blob = await blobOf(canvas, "image/webp", 0.85);
    if (blob.type !== "image/webp") throw new Error("This browser cannot write WebP. Save a PNG, or use another browser.");
    size = [canvas.width, canvas.height];
    const duration = step === steps.at(-1) ? RESTS : (1000 * stride) / lab.speed;
    const place = [little(0, 3), little(0, 3), little(size[0] - 1, 3), little(size[1] - 1, 3)];
    const bytes = new Uint8Array(await blob.arrayBuffer());
    pictures.push(chunk("ANMF", ...place, little(Math.round(duration), 3), little(2, 1), pictureChunks(bytes)));
  }
  const extended = chunk("VP8X", little(2, 4), little(size[0] - 1, 3), little(size[1] - 1, 3));
  const body = joined([letters("WEBP"), extended, chunk("ANIM", little(0xffffffff, 4), little(0, 2)), ...pictures]);
  saveFile(new Blob([letters("RIFF"), little(body.length, 4), body], { type: "image/webp" }), "webp");
}
