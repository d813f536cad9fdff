// A figure above a grid: its newest value and its curve, with the other side's curve behind it on the same scale.
const SVG = "http://www.w3.org/2000/svg";
const CURVE = { width: 200, height: 40, inset: 4 };

function figureRange(sides, name) {
  const values = Object.values(sides).flatMap((side) => side.curves[name].map((point) => point[1]));
  if (!values.length) return { low: 0, high: 1 };
  const low = Math.min(...values);
  const high = Math.max(...values);
  const room = Math.max((high - low) * 0.08, 0.01); // a flat curve runs through the middle
  return { low: low - room, high: high + room };
}

function curvePath(points, total, range, at) {
  const x = (step) => (CURVE.width * step) / Math.max(total, 1);
  const span = CURVE.height - 2 * CURVE.inset;
  const y = (value) => CURVE.inset + span * (1 - (value - range.low) / (range.high - range.low));
  const line = points.map(([step, value], i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const marked = points.findLast(([step]) => step <= at) ?? points[0];
  return { line, dot: marked ? `M${x(marked[0]).toFixed(1)} ${y(marked[1]).toFixed(1)}h0.01` : "" };
}

function curveElement(svg, kind) {
  const found = svg.querySelector(`.${kind}`);
  if (found) return found;
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("class", kind);
  path.setAttribute("vector-effect", "non-scaling-stroke");
  svg.append(path);
  return path;
}

function makeFigure({ key, label, help }) {
  const figure = element.querySelector('template[data-role="figure"]').content.firstElementChild.cloneNode(true);
  figure.dataset.figure = key;
  figure.title = help;
  figure.querySelector("figcaption").textContent = label;
  return figure;
}

function paintFigure(root, name, side, others, total, range) {
  const figure = root.querySelector(`[data-figure="${name}"]`);
  const svg = figure.querySelector("svg");
  const own = curvePath(side.curves[name], total, range, side.step);
  const behind = others.map((other) => curvePath(other.curves[name], total, range, 0).line).join("");
  curveElement(svg, "curve-other").setAttribute("d", behind);
  curveElement(svg, "curve-own").setAttribute("d", own.line);
  curveElement(svg, "curve-dot").setAttribute("d", own.dot);
  figure.querySelector("output").textContent = side.figures[name].toFixed(3);
  const label = figure.querySelector("figcaption").textContent;
  const first = side.curves[name][0];
  const shown = side.figures[name].toFixed(3);
  svg.setAttribute("aria-label", `${label} over the steps: from ${first[1].toFixed(3)} to ${shown}`);
}
