// The menus and sliders, made from the words that the server gives; what they hold is kept for a reload.
const KEPT = "studio-kept-lab";
const words = props.words;
const SINGLE = ""; // nothing on the right
const NAMES = ["target", "generator", "left", "right", ...words.sliders.map((slider) => slider.key)];

const chosen = { ...props.defaults, left: "KRR", right: "DGflow" };

function readKept() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT) ?? "{}");
    for (const name of NAMES) if (typeof kept[name] === typeof chosen[name]) chosen[name] = kept[name];
  } catch {
    localStorage.removeItem(KEPT);
  }
  for (const [name, options] of [["target", words.targets], ["generator", words.generators], ["left", words.samplers]]) {
    if (!(chosen[name] in options)) chosen[name] = name === "left" ? "KRR" : props.defaults[name];
  }
  if (chosen.right !== SINGLE && !(chosen.right in words.samplers)) chosen.right = SINGLE;
  for (const { key, low, high } of words.sliders) {
    if (!(chosen[key] >= low && chosen[key] <= high)) chosen[key] = props.defaults[key];
  }
}

function keep() {
  try {
    localStorage.setItem(KEPT, JSON.stringify(Object.fromEntries(NAMES.map((name) => [name, chosen[name]]))));
  } catch {
    localStorage.removeItem(KEPT);
  }
}

function make(kind, className, text) {
  const made = document.createElement(kind);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function fillMenu(menu, options, value) {
  menu.replaceChildren(...options.map(([key, label]) => {
    const option = make("option", "", label);
    option.value = key;
    option.selected = key === value;
    return option;
  }));
}

function makeMenu(key, label, info, options, onChange) {
  const row = make("label", "lab-control");
  const menu = make("select");
  menu.dataset.key = key;
  fillMenu(menu, Object.entries(options), chosen[key]);
  menu.addEventListener("change", () => {
    chosen[key] = menu.value;
    keep();
    onChange(key);
  });
  row.append(make("span", "lab-label", label), menu, make("span", "lab-info", info));
  return row;
}

// A slider's value and its place: even in the value, or in its logarithm.
const placeOf = (slider, value) => (slider.log ? Math.log(value / slider.low) / Math.log(slider.high / slider.low) : value);

function valueAt(slider, place) {
  if (!slider.log) return place;
  const value = slider.low * (slider.high / slider.low) ** place;
  return slider.key === "n" ? Math.round(value) : Number(value.toPrecision(2));
}

function makeSlider(slider, onChange) {
  const row = make("div", "lab-control");
  row.dataset.control = slider.key;
  const label = make("label", "lab-label", slider.label);
  const box = make("input");
  const range = make("input");
  const isWhole = ["n", "seed", "steps"].includes(slider.key);
  Object.assign(box, { type: "number", min: slider.low, max: slider.high, step: isWhole ? 1 : "any", value: chosen[slider.key] });
  box.id = `lab-${slider.key}`;
  label.htmlFor = box.id;
  Object.assign(range, { type: "range", min: slider.log ? 0 : slider.low, max: slider.log ? 1 : slider.high, step: slider.log ? 0.01 : slider.step });
  range.value = placeOf(slider, chosen[slider.key]);
  range.setAttribute("aria-label", slider.label);
  const take = (value) => {
    chosen[slider.key] = value;
    keep();
    onChange(slider.key, slider.restarts);
  };
  range.addEventListener("input", () => {
    const value = valueAt(slider, Number(range.value));
    box.value = value;
    take(value);
  });
  box.addEventListener("change", () => {
    range.value = placeOf(slider, Math.max(Number(box.value), slider.low));
    take(box.value === "" ? null : Number(box.value)); // what is out of range the server refuses, in words
  });
  row.append(label, box);
  if (slider.key !== "seed") row.append(range);
  row.append(make("span", "lab-info", slider.info));
  return row;
}

// A slider that neither sampler follows is shown so.
function markIdle() {
  const samplers = [chosen.left, chosen.right].filter(Boolean);
  for (const slider of words.sliders) {
    const row = element.querySelector(`[data-control="${slider.key}"]`);
    const isIdle = !samplers.some((name) => slider.acts_on.includes(name));
    row.classList.toggle("is-idle", isIdle);
    row.title = isIdle ? `No effect on ${samplers.join(" or ")}: it is of ${slider.acts_on.join(", ")}.` : "";
  }
}

function buildControls(onChange) {
  readKept();
  const choices = element.querySelector('[data-role="choices"]');
  const target = makeMenu("target", "Target", words.target_info, words.targets, onChange);
  const generator = makeMenu("generator", "Generator", words.generator_info, words.generators, onChange);
  choices.append(target, generator, ...words.sliders.slice(0, 3).map((slider) => makeSlider(slider, onChange)));
  element.querySelector('[data-role="sliders"]').append(...words.sliders.slice(3).map((slider) => makeSlider(slider, onChange)));
  const samplers = Object.entries(words.samplers).map(([key, [label]]) => [key, label]);
  for (const name of ["left", "right"]) {
    const menu = element.querySelector(`select[data-role="${name}"]`);
    fillMenu(menu, name === "right" ? [...samplers, [SINGLE, "Nothing beside it"]] : samplers, chosen[name]);
    menu.addEventListener("change", () => {
      chosen[name] = menu.value;
      keep();
      markIdle();
      onChange(name);
    });
  }
  markIdle();
}
