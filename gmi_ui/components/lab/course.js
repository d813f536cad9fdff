// A side's run: frames as the server made them, and more of them asked for before they are shown.
const WAIT = 300; // ms before the server is asked again, where it had no time
const AHEAD = 1.5; // seconds that are fetched before they are shown
const READY = 6; // steps that are fetched while nothing plays
const POSITION_REACH = 8; // as in functions.py
const WHOLE = 32767;

function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function numbersOf(text, reach) {
  const bytes = bytesOf(text);
  const view = new DataView(bytes.buffer);
  const values = new Float32Array(bytes.length / 2);
  for (let i = 0; i < values.length; i += 1) values[i] = (view.getInt16(2 * i, true) * reach) / WHOLE;
  return values;
}

function frameOf(sent) {
  const { vectors, reach } = sent;
  return { ...sent, positions: numbersOf(sent.positions, POSITION_REACH), vectors: vectors ? numbersOf(vectors, reach || 1) : null };
}

function makeSide(name) {
  return { name, sampler: "", frames: [], ended: false, message: "", epoch: 0, reach: 0 };
}

// From the first step, or from a frame that is there: what was computed beyond it goes.
function forget(side, kept = 0) {
  side.epoch += 1; // an answer that is under way is of before
  side.frames.length = Math.min(side.frames.length, kept);
  side.ended = false;
  side.message = "";
  if (!side.frames.length) side.reach = 0;
}

const lastOf = (side) => side.frames.length - 1;
const isOver = (side) => side.ended || Boolean(side.message);

// true: answered; false: the server had no time; null: it was silent.
async function fetchFrames(side, settings, most, vectors) {
  const { epoch } = side;
  const state = side.frames.at(-1)?.state ?? null;
  const answer = await server.lab_frames({ token: window.studio.token, settings, state, most, vectors });
  if (!answer) return null; // gradio's client logs the failure and returns nothing
  if (answer.busy) return false;
  if (side.epoch !== epoch) return true;
  if (answer.message) {
    side.message = answer.message;
    return true;
  }
  side.frames.push(...answer.frames.map(frameOf));
  side.ended = answer.ended;
  side.reach ||= typicalLength(answer.frames[0] ? side.frames.at(-answer.frames.length) : null);
  return true;
}

// The length that nine tenths of a frame's vectors do not reach: arrows are drawn in units of it.
function typicalLength(frame) {
  if (!frame?.vectors) return 0;
  const lengths = [];
  for (let i = 0; i < frame.vectors.length; i += 2) {
    const length = Math.hypot(frame.vectors[i], frame.vectors[i + 1]);
    if (length > 0) lengths.push(length);
  }
  lengths.sort((a, b) => a - b);
  return lengths[Math.floor(0.9 * lengths.length)] ?? 0;
}
