// A table with a column for each value of the first setting and a row for each of the second. While it is drawn the
// page asks for the cells that it does not have yet.
const place = element.querySelector(".plot");
const role = (name) => place.querySelector(`[data-role="${name}"]`);
const INTERVAL = 700; // ms
const ROOM = 840; // px that the pictures of a row may take
const plot = { id: "", count: 0, following: false, wasAsked: false };

const request = (more = {}) => ({ token: window.studio.token, ...more });

const { duration } = window.studio;

function statusText({ phase, place: before, share, left, count }) {
  const done = `${plot.count} of ${count} cells`;
  if (phase === "waiting") return before > 1 ? `Waiting: ${before} runs are before it` : "Waiting: one run is before it";
  if (phase === "done") return `Done: ${done}`;
  if (phase === "stopped") return `Stopped: ${done}`;
  if (phase === "failed") return `Ended early: ${done}`;
  const parts = [done, `${Math.round(100 * (share ?? 0))} %`];
  if (left !== null && left >= 3) parts.push(`${duration(left)} left`);
  return parts.join("  \u00b7  ");
}

function heading(text, kind = "") {
  const cell = document.createElement("th");
  cell.textContent = text;
  cell.className = kind;
  return cell;
}

function emptyCell(columns, side, shown) {
  const cell = document.createElement("td");
  const pictures = document.createElement("div");
  pictures.className = "plot-pictures";
  pictures.style.setProperty("--columns", columns);
  pictures.style.setProperty("--side", `${side}px`);
  pictures.append(...Array.from({ length: shown }, () => document.createElement("span")));
  const figures = document.createElement("div");
  figures.className = "plot-figures";
  figures.textContent = "\u2013";
  cell.append(pictures, figures);
  return cell;
}

function makeTable({ x, y, shown }) {
  const columns = Math.ceil(Math.sqrt(shown));
  const side = Math.max(36, Math.min(112, Math.floor(ROOM / (x.texts.length * columns)) - 6));
  const axis = heading(x.label, "plot-axis");
  axis.colSpan = x.texts.length;
  const above = document.createElement("tr");
  above.append(heading(y.label, "plot-axis"), axis);
  const heads = document.createElement("tr");
  heads.append(heading(""), ...x.texts.map((text) => Object.assign(heading(text), { scope: "col" })));
  place.querySelector("thead").replaceChildren(above, heads);
  place.querySelector("tbody").replaceChildren(...y.texts.map((text) => {
    const row = document.createElement("tr");
    row.append(Object.assign(heading(text), { scope: "row" }), ...x.texts.map(() => emptyCell(columns, side, shown)));
    return row;
  }));
}

function fillCell(cell, { x, y }) {
  const target = place.querySelector("tbody").rows[cell.row].cells[cell.column + 1];
  const values = [`${x.label} ${x.texts[cell.column]}`, y.label && `${y.label} ${y.texts[cell.row]}`].filter(Boolean).join(", ");
  if (cell.error) {
    const told = Object.assign(document.createElement("div"), { className: "plot-error", textContent: cell.error });
    target.replaceChildren(told);
    return;
  }
  target.firstElementChild.replaceChildren(...cell.pictures.map((jpeg, index) => Object.assign(new Image(), {
    src: `data:image/jpeg;base64,${jpeg}`, alt: `${values}, picture ${index + 1}`,
  })));
  const told = [cell.text !== null && `text ${cell.text.toFixed(3)}`, `diversity ${cell.diversity.toFixed(3)}`];
  target.lastElementChild.textContent = told.filter(Boolean).join("  ");
}

function paint(state) {
  place.hidden = !state?.id;
  if (place.hidden) return false;
  const isNew = plot.id !== state.id;
  if (isNew) {
    Object.assign(plot, { id: state.id, count: 0 });
    makeTable(state);
    place.querySelector(".plot-words").textContent = `All cells: ${state.words}`;
    if (plot.wasAsked) place.scrollIntoView({ block: "nearest" });
  }
  if (state.known === plot.count) {
    state.cells.forEach((cell) => fillCell(cell, state));
    plot.count += state.cells.length;
  }
  place.dataset.phase = state.phase;
  place.querySelector(".plot-status").textContent = statusText(state);
  const bar = place.querySelector("progress");
  bar.hidden = state.is_over;
  bar.value = state.share ?? 0;
  role("plot-stop").hidden = state.is_over;
  role("plot-save").hidden = !plot.count;
  return !state.is_over;
}

async function follow() {
  if (plot.following) return;
  plot.following = true;
  try {
    while (paint(await server.plot_state(request({ id: plot.id, count: plot.count })))) {
      await new Promise((resolve) => setTimeout(resolve, INTERVAL));
    }
  } finally {
    plot.following = false;
  }
}

role("plot-stop").addEventListener("click", async () => {
  await server.stop_plot(request());
  follow();
});
role("plot-save").addEventListener("click", async () => {
  const answer = await server.save_plot(request());
  if (answer?.path) window.studio.download(answer.path);
  document.dispatchEvent(new CustomEvent("studio:wake", { detail: { task: "generate" } }));
});
watch("value", () => {
  plot.wasAsked = true;
  follow();
});
follow();
