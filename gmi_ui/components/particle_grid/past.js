// Looking back: a slider over the steps whose particles were kept. The server draws their pictures again.
const pastPlace = element.querySelector(".past");
const pastSlider = pastPlace.querySelector("input");
const past = { run: null, steps: [], shown: null, asked: null, asking: false };

const pastHeight = () => (pastPlace.hidden ? 0 : pastPlace.offsetHeight);
const isPast = (frame) => past.shown !== null && past.shown.run === frame.run;

// The sides that are to be painted: those of the step that is looked at, with the newest curves.
function shownSides(frame) {
  if (!isPast(frame)) return frame.sides;
  return Object.fromEntries(Object.entries(frame.sides).map(([name, side]) => [name, { ...side, ...past.shown.sides[name] }]));
}

const shownStep = (frame) => (isPast(frame) ? past.shown.step : null);

function arrangePast(frame) {
  const steps = frame.past ?? [];
  const isNew = past.run !== frame.run || past.steps.length !== steps.length;
  if (isNew) Object.assign(past, { run: frame.run, steps, shown: null, asked: null });
  const wasHidden = pastPlace.hidden;
  pastPlace.hidden = steps.length < 2;
  if (wasHidden !== pastPlace.hidden) fitCells();
  if (pastPlace.hidden || !isNew) return;
  pastSlider.max = steps.length - 1;
  pastSlider.value = steps.length - 1;
  tellPast();
}

function tellPast() {
  const step = past.steps[Number(pastSlider.value)];
  const isNewest = Number(pastSlider.value) === past.steps.length - 1;
  pastPlace.querySelector("output").textContent = isNewest ? `step ${step}, the newest` : `step ${step}`;
  pastSlider.setAttribute("aria-valuetext", `step ${step}`);
  pastPlace.querySelector("button").hidden = isNewest;
}

// One question at a time; the newest position of the slider wins.
async function lookBack() {
  tellPast();
  past.asked = Number(pastSlider.value);
  if (past.asking) return;
  past.asking = true;
  try {
    while (past.asked !== null) {
      const wanted = past.asked;
      past.asked = null;
      const isNewest = wanted === past.steps.length - 1;
      const answer = isNewest ? null : await server.past_frame(request({ step: past.steps[wanted] }));
      if (isNewest || answer?.run === feed.frame.run) past.shown = answer;
      else wakeFeed(); // it is gone: the newest frame says why
      paintFrame(feed.frame);
    }
  } finally {
    past.asking = false;
  }
}

pastSlider.addEventListener("input", lookBack);
pastPlace.querySelector("button").addEventListener("click", () => {
  pastSlider.value = past.steps.length - 1;
  lookBack();
});
