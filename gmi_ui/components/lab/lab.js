// Plays the sides: one clock for both, frames fetched before they are shown, everything drawn anew where it changed.
const root = element.querySelector(".lab");
const part = (role) => element.querySelector(`[data-role="${role}"]`);
const figureOf = (name) => element.querySelector(`.lab-side[data-side="${name}"]`);
const SILENT = "The studio does not answer. If its terminal was closed, start it again; this page then goes on by itself.";
const SMOOTHING = 0.5; // seconds
const SETTLED = 200; // ms after the last change before a run begins anew

const lab = {
  sides: [],
  at: 0, // the step that is shown, between two steps a fraction
  goal: 0, // where it stops by itself; Infinity while it plays
  speed: 8,
  shows: { A: false, B: false, C: false, trails: true, density: true },
  density: null,
  cells: null,
  isDirty: true,
};
const isPlaying = () => lab.goal === Infinity;
const isShown = () => element.offsetParent !== null;

function settingsOf(side) {
  const values = Object.fromEntries(words.sliders.map(({ key }) => [key, chosen[key]]));
  const strokes = isDrawing() ? chosen.strokes : [];
  const generator = isDrawing() ? "none" : chosen.generator;
  return { ...values, target: chosen.target, strokes, generator, sampler: side.sampler };
}

const isEmpty = () => isDrawing() && !chosen.strokes.length;

// A message stays until what it was about is over; one that was put away does not come back.
let putAway = "";

function showNotice(text, kind = "warning") {
  const notice = element.querySelector(".notice");
  if (!text) putAway = "";
  notice.hidden = !text || text === putAway;
  notice.dataset.kind = kind;
  notice.querySelector(".notice-polite").textContent = text;
}

element.querySelector('[data-role="dismiss"]').addEventListener("click", () => {
  putAway = element.querySelector(".notice-polite").textContent;
  showNotice(putAway);
});

// --- fetching: one request at a time, for the side that has the least

const wantedUntil = () => (isPlaying() ? lab.at + lab.speed * AHEAD : Math.max(lab.goal, Math.ceil(lab.at)) + READY);
const wantsVectors = () => ROLES.some((role) => lab.shows[role]);
const isWanting = (side) => !settling && !isOver(side) && lastOf(side) < wantedUntil();
let isFetching = false;
let settling = 0; // the timer of a run that is about to begin anew

async function fetchWanted() {
  if (isFetching) return;
  isFetching = true;
  try {
    await fetchUntilEnough();
  } finally {
    isFetching = false;
  }
}

async function fetchUntilEnough() {
  while (isShown() && !isEmpty()) {
    const [side] = lab.sides.filter(isWanting).sort((a, b) => a.frames.length - b.frames.length);
    if (!side) break;
    const most = side.frames.length ? Math.ceil(wantedUntil() - lastOf(side)) : 1; // the first one soon
    const isHeard = await fetchFrames(side, settingsOf(side), most, wantsVectors());
    if (!isHeard) await new Promise((resolve) => setTimeout(resolve, WAIT));
    showNotice(isHeard === null ? SILENT : lab.sides.map(({ message }) => message).find(Boolean) ?? "");
    lab.isDirty = true;
    wake();
  }
}

async function fetchDensity() {
  const request = { token: window.studio.token, target: chosen.target, strokes: isDrawing() ? chosen.strokes : [] };
  const mark = JSON.stringify(request);
  fetchDensity.newest = mark;
  if (isEmpty()) {
    lab.cells = lab.density = null;
  } else {
    const answer = await server.lab_density(request);
    if (fetchDensity.newest !== mark) return;
    if (answer?.busy || !answer) return void setTimeout(fetchDensity, WAIT);
    lab.cells = answer.cells ? { cells: bytesOf(answer.cells), side: answer.side } : null;
    lab.density = lab.cells && densityPicture(lab.cells);
  }
  lab.isDirty = true;
  wake();
}

// --- the clock

let before = 0;
let isAwake = false;

function wake() {
  if (isAwake) return;
  isAwake = true;
  before = performance.now();
  requestAnimationFrame(tick);
}

function advance(seconds) {
  const there = Math.max(0, ...lab.sides.map(lastOf));
  const fetched = Math.min(...lab.sides.map((side) => (isOver(side) ? Infinity : Math.max(0, lastOf(side)))));
  // Of what comes slowly half a second's worth is used up at a time: it flows on, and does not stop at every step.
  const speed = fetched < lab.goal ? Math.min(lab.speed, (fetched - lab.at) / SMOOTHING) : lab.speed;
  const next = Math.min(lab.at + seconds * speed, lab.goal, there, fetched);
  if (next > lab.at) {
    lab.at = next;
    lab.isDirty = true;
  }
  if (isPlaying() && lab.sides.every(isOver) && lab.at >= there) {
    lab.goal = lab.at;
    lab.isDirty = true;
  }
}

function tick(now) {
  isAwake = false;
  if (!isShown()) return;
  advance(Math.min(0.1, (now - before) / 1000));
  if (lab.isDirty) paint();
  lab.isDirty = false;
  if (lab.sides.some(isWanting)) fetchWanted();
  if (lab.at < lab.goal && !(lab.sides.every(isOver) && !isPlaying())) {
    wake();
    before = now;
  }
}

// --- painting

function paint() {
  for (const side of lab.sides) paintSide(side);
  const total = chosen.steps;
  paintChart("distance", lab.sides, lab.at, total, (value) => value.toFixed(3));
  paintChart("coverage", lab.sides, lab.at, total, (value) => `${Math.round(100 * value)} %`);
  const step = Math.round(lab.at);
  element.querySelector(".lab-at").textContent = `step ${step} of ${total}`;
  const scrub = part("scrub");
  scrub.max = Math.max(1, total);
  scrub.value = step;
  const button = part("play");
  const hasEnded = lab.sides.every(isOver) && lab.at >= Math.max(0, ...lab.sides.map(lastOf));
  button.querySelector("span").textContent = isPlaying() ? "Pause" : hasEnded && step > 0 ? "Play again" : "Play";
  button.querySelector("path").setAttribute("d", isPlaying() ? PAUSE_ICON : PLAY_ICON);
  part("step").disabled = isPlaying() || hasEnded;
  root.dataset.frame = step;
  root.dataset.state = isPlaying() ? "playing" : hasEnded && step > 0 ? "ended" : "paused";
  root.dataset.fetched = Math.min(...lab.sides.map((side) => side.frames.length));
}

const PLAY_ICON = part("play").querySelector("path").getAttribute("d");
const PAUSE_ICON = "M3.5 4a1 1 0 0 1 1-1h1a1 1 0 0 1 1 1v8a1 1 0 0 1-1 1h-1a1 1 0 0 1-1-1zm6 0a1 1 0 0 1 1-1h1a1 1 0 0 1 1 1v8a1 1 0 0 1-1 1h-1a1 1 0 0 1-1-1z";

function paintSide(side) {
  const figure = figureOf(side.name);
  const canvas = figure.querySelector("canvas");
  const size = Math.round(canvas.clientWidth * Math.min(2, window.devicePixelRatio || 1));
  if (!size) return;
  if (canvas.width !== size) canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  paintPlane(context, size, side, lab.at, lab.shows, lab.density);
  if (isDrawing() && !lab.density) paintStrokes(context, size);
  const frame = side.frames[Math.min(Math.round(lab.at), lastOf(side))];
  figure.querySelector("output").textContent = frame ? `EMD ${frame.distance.toFixed(3)} · ${Math.round(100 * frame.coverage)} %` : "";
  const hint = figure.querySelector(".lab-hint");
  hint.hidden = !isEmpty();
  hint.textContent = "Draw here: with the mouse, a pen or a finger.";
}

// --- what a person does

function restart() {
  clearTimeout(settling);
  settling = 0;
  lab.at = 0;
  lab.goal = isPlaying() ? Infinity : 0;
  for (const side of lab.sides) forget(side);
  showNotice("");
  lab.isDirty = true;
  wake();
}

function arrangeSides() {
  lab.sides = ["left", "right"].filter((name) => chosen[name] !== SINGLE).map((name) => {
    const side = lab.sides.find((one) => one.name === name) ?? makeSide(name);
    side.sampler = chosen[name];
    return side;
  });
  for (const name of ["left", "right"]) {
    const sampler = chosen[name];
    figureOf(name).classList.toggle("is-empty", sampler === SINGLE);
    figureOf(name).querySelector(".lab-told").textContent = sampler === SINGLE ? "" : words.samplers[sampler][1];
  }
  element.querySelector(".lab-sides").classList.toggle("is-single", lab.sides.length === 1);
}

function arrangeTarget() {
  root.classList.toggle("is-drawing", isDrawing());
  element.querySelector('select[data-key="generator"]').disabled = isDrawing();
  const isCurve = chosen.target !== "25 Gaussians";
  element.querySelector('[data-chart="coverage"] figcaption span').textContent = isCurve ? "Share of the target covered" : "Modes covered";
  fetchDensity();
}

// Frames that were fetched without vectors are fetched again from the one that is shown on; they are the same.
function fetchVectors() {
  const shown = Math.floor(lab.at);
  for (const side of lab.sides) if (side.frames.slice(shown).some((frame) => !frame.vectors)) forget(side, Math.min(shown, lastOf(side)));
}

// What begins a run anew waits until the slider rests; the others count from the step that is shown.
function onChange(key, restarts = true) {
  if (key === "target") arrangeTarget();
  if (key === "left" || key === "right") arrangeSides();
  if (restarts) {
    clearTimeout(settling);
    settling = setTimeout(restart, ["n", "seed", "steps"].includes(key) ? SETTLED : 0);
    return;
  }
  if (settling) return; // it begins anew with this, too
  const shown = Math.ceil(lab.at);
  for (const side of lab.sides) forget(side, shown === 0 ? 0 : shown + 1);
  showNotice("");
  lab.isDirty = true;
  wake();
}

part("play").addEventListener("click", () => {
  if (isPlaying()) lab.goal = lab.at;
  else {
    if (root.dataset.state === "ended") restart();
    lab.goal = Infinity;
  }
  lab.isDirty = true;
  wake();
});
part("step").addEventListener("click", () => {
  lab.goal = Math.floor(lab.at + 1e-6) + 1;
  wake();
});
part("restart").addEventListener("click", restart);
part("scrub").addEventListener("input", () => {
  const step = Math.min(Number(part("scrub").value), Math.max(0, ...lab.sides.map(lastOf)));
  lab.at = lab.goal = step;
  lab.isDirty = true;
  wake();
});
part("speed").addEventListener("input", () => (lab.speed = Number(part("speed").value)));
for (const toggle of element.querySelectorAll("[data-shows]")) {
  toggle.addEventListener("click", () => {
    const name = toggle.dataset.shows;
    lab.shows[name] = !lab.shows[name];
    if (wantsVectors()) fetchVectors();
    toggle.setAttribute("aria-pressed", lab.shows[name]);
    lab.isDirty = true;
    wake();
  });
}
const EXPORTS = { png: savePng, svg: saveSvg, webp: saveWebp };
for (const button of element.querySelectorAll("[data-export]")) {
  const label = button.textContent;
  button.addEventListener("click", async () => {
    if (isPlaying()) lab.goal = lab.at; // both at once would be slow
    button.disabled = true;
    try {
      await EXPORTS[button.dataset.export]((told) => (button.textContent = told));
    } catch (error) {
      showNotice(error.message);
    }
    button.textContent = label;
    button.disabled = false;
    lab.isDirty = true;
    wake();
  });
}
for (const name of ["left", "right"]) {
  listenToStrokes(figureOf(name).querySelector(".lab-stage"), (isDone) => {
    if (isDone) {
      fetchDensity();
      restart();
    } else {
      lab.cells = lab.density = null;
      for (const side of lab.sides) forget(side);
    }
    lab.isDirty = true;
    wake();
  });
}
for (const [role, rest] of [["undo", -1], ["clear", 0]]) {
  part(role).addEventListener("click", () => {
    chosen.strokes = rest ? chosen.strokes.slice(0, rest) : [];
    fetchDensity();
    restart();
  });
}

new MutationObserver(() => {
  readPalette();
  if (lab.cells) lab.density = densityPicture(lab.cells);
  lab.isDirty = true;
  wake();
}).observe(document.body, { attributes: true, attributeFilter: ["class"] });
new ResizeObserver(() => {
  lab.isDirty = true;
  wake();
}).observe(element.querySelector(".lab-sides"));

buildControls(onChange);
readPalette();
arrangeSides();
arrangeTarget();
restart();
