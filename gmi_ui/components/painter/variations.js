// How different the results are inside the hole, over how much of the picture is repainted: one point for each run.
const chart = element.querySelector(".variations");
const CHART = { width: 200, height: 70, inset: 6 };

function chartPath(points, top) {
  const span = CHART.height - 2 * CHART.inset;
  return points.map(([share, value], i) => {
    const x = CHART.inset + (CHART.width - 2 * CHART.inset) * share;
    const y = CHART.height - CHART.inset - span * (value / top);
    return `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
  });
}

function chartLine(kind, points, top) {
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const dots = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const places = chartPath(points, top);
  line.setAttribute("class", `variation-line ${kind}`);
  line.setAttribute("d", places.join(""));
  dots.setAttribute("class", `variation-dots ${kind}`);
  dots.setAttribute("d", places.map((place) => `${place.replace("L", "M")}h0.01`).join(""));
  for (const path of [line, dots]) path.setAttribute("vector-effect", "non-scaling-stroke");
  return [line, dots];
}

function paintVariations(runs) {
  chart.hidden = !runs?.length;
  if (chart.hidden) return;
  const sorted = [...runs].sort((a, b) => a[0] - b[0]);
  const ours = sorted.map(([share, value]) => [share, value]);
  const baseline = sorted.filter((run) => run[2] !== null).map(([share, , value]) => [share, value]);
  const top = Math.max(0.01, ...[...ours, ...baseline].map((point) => point[1]));
  const svg = chart.querySelector("svg");
  svg.replaceChildren(...chartLine("baseline", baseline, top), ...chartLine("ours", ours, top));
  const percent = (share) => `${Math.round(100 * share)} %`;
  const told = sorted.map(([share, value]) => `${percent(share)} repainted: ${value.toFixed(3)}`).join(", ");
  svg.setAttribute("aria-label", `How different the fillings are. ${told}`);
  const rows = sorted.map(([share, value, other]) => {
    const row = document.createElement("tr");
    for (const text of [percent(share), value.toFixed(3), other === null ? "\u2013" : other.toFixed(3)]) {
      row.append(Object.assign(document.createElement("td"), { textContent: text }));
    }
    return row;
  });
  chart.querySelector("tbody").replaceChildren(...rows);
}
