// A curve for each side over the steps, on one scale, with a mark at the step that is shown.
const SVG = "http://www.w3.org/2000/svg";
const CHART = { width: 300, height: 70, inset: 5 };

function chartRange(sides, key) {
  const values = sides.flatMap((side) => side.frames.map((frame) => frame[key]));
  if (!values.length) return [0, 1];
  if (key === "coverage") return [0, 1];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = Math.max(0.08 * (high - low), 0.01);
  return [Math.max(0, low - room), high + room];
}

function chartPoint(frame, key, total, [low, high]) {
  const span = CHART.height - 2 * CHART.inset;
  const x = (CHART.width * frame.step) / Math.max(1, total);
  return `${x.toFixed(1)} ${(CHART.inset + span * (1 - (frame[key] - low) / (high - low))).toFixed(1)}`;
}

function chartLine(svg, name) {
  const found = svg.querySelector(`[data-line="${name}"]`);
  if (found) return found;
  const path = document.createElementNS(SVG, "path");
  path.dataset.line = name;
  path.setAttribute("vector-effect", "non-scaling-stroke");
  svg.append(path);
  return path;
}

function paintChart(key, sides, at, total, words) {
  const figure = element.querySelector(`[data-chart="${key}"]`);
  const svg = figure.querySelector("svg");
  const range = chartRange(sides, key);
  const shown = [];
  for (const name of ["left", "right"]) {
    const side = sides.find((one) => one.name === name);
    const frames = side?.frames ?? [];
    const here = frames[Math.min(Math.round(at), frames.length - 1)];
    const line = frames.map((frame) => chartPoint(frame, key, total, range)).join("L");
    chartLine(svg, name).setAttribute("d", line ? `M${line}` : "");
    chartLine(svg, `${name}-here`).setAttribute("d", here ? `M${chartPoint(here, key, total, range)}h0.01` : "");
    if (here) shown.push([name, words(here[key])]);
  }
  const values = shown.map(([name, text]) => Object.assign(document.createElement("b"), { className: name, textContent: text }));
  figure.querySelector("output").replaceChildren(...values);
  svg.setAttribute("aria-label", `${figure.querySelector("figcaption span").textContent}: ${shown.map(([name, text]) => `${name} ${text}`).join(", ")}`);
}
