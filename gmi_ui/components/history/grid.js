// The grid: as high as all pictures would be, but only those rows are there that can be seen. What is known of the
// pictures comes in pages, their thumbnails in batches for what is seen just then.
const scroll = find(".history-scroll");
const space = find(".history-space");
const PAGE = 100; // pictures, as the server gives them
const BATCH = 60; // thumbnails at once
const SMALLEST = 108; // px of a cell
const GAP = 8; // px
const SPARE_ROWS = 2; // above and below what is seen
const MOST_KEPT = 3000; // thumbnails that stay in memory

const grid = { total: 0, revision: -1, pages: new Map(), asked: new Set(), columns: 4, side: SMALLEST, wanted: {}, version: 0 };
const thumbnails = new Map(); // by number: a URL; "" of one that is gone
const cells = new Map(); // by place, of those that are there
const chosen = new Map(); // by number: its row

const rowAt = (place) => grid.pages.get(Math.floor(place / PAGE))?.rows[place % PAGE];

function placeOf(number) {
  for (const [page, { rows }] of grid.pages) {
    const at = rows.findIndex((row) => row.number === number);
    if (at >= 0) return page * PAGE + at;
  }
  return -1;
}

// Asks for a page, unless it is here as it is now; what was here stays until the new one comes.
async function loadPage(page) {
  const known = grid.pages.get(page);
  if (grid.asked.has(page) || (known && known.revision === grid.revision)) return;
  grid.asked.add(page);
  const { version } = grid;
  try {
    const answer = await ask("history_page", { offset: page * PAGE, wanted: grid.wanted });
    if (version !== grid.version || !answer) return; // something else is wanted by now
    grid.revision = Math.max(grid.revision, answer.revision);
    grid.pages.set(page, { rows: answer.rows, revision: answer.revision });
    if (grid.total !== answer.total) {
      grid.total = answer.total;
      layOut();
    } else paintCells();
    onTotal();
  } finally {
    if (version === grid.version) grid.asked.delete(page);
  }
}

// Another search: nothing of the old one stays.
function want(wanted) {
  Object.assign(grid, { wanted, total: 0, pages: new Map(), asked: new Set(), version: grid.version + 1 });
  scroll.scrollTop = 0;
  dropCells();
  loadPage(0);
}

function dropCells() {
  for (const cell of cells.values()) cell.remove();
  cells.clear();
}

function layOut() {
  const width = space.clientWidth;
  if (!width) return;
  grid.columns = Math.max(2, Math.floor((width + GAP) / (SMALLEST + GAP)));
  grid.side = Math.floor((width - (grid.columns - 1) * GAP) / grid.columns);
  space.style.height = `${Math.max(0, Math.ceil(grid.total / grid.columns) * (grid.side + GAP) - GAP)}px`;
  for (const [place, cell] of cells) {
    if (place >= grid.total) {
      cell.remove();
      cells.delete(place);
    } else putCell(cell, place);
  }
  paintCells();
}

function putCell(cell, place) {
  const [row, column] = [Math.floor(place / grid.columns), place % grid.columns];
  cell.style.width = cell.style.height = `${grid.side}px`;
  cell.style.transform = `translate(${column * (grid.side + GAP)}px, ${row * (grid.side + GAP)}px)`;
}

function makeCell(place) {
  const cell = make("div", "history-cell");
  const open = make("button", "history-open");
  open.type = "button";
  open.append(Object.assign(document.createElement("img"), { alt: "" }));
  open.addEventListener("click", (event) => {
    const row = rowAt(place);
    if (!row) return;
    if (event.ctrlKey || event.metaKey || event.shiftKey) choose(row, !chosen.has(row.number));
    else openView(row.number);
  });
  const pick = Object.assign(document.createElement("input"), { type: "checkbox", className: "history-pick" });
  pick.addEventListener("change", () => { if (rowAt(place)) choose(rowAt(place), pick.checked); });
  cell.append(open, pick, make("div", "history-marks"));
  putCell(cell, place);
  space.append(cell);
  cells.set(place, cell);
  return cell;
}

function paintCell(cell, row) {
  const [open, pick, marks] = cell.children;
  const url = row && thumbnails.get(row.number);
  const key = row ? [row.number, row.liked, row.side, url?.length, chosen.has(row.number)].join() : "";
  if (cell.dataset.key === key) return;
  cell.dataset.key = key;
  cell.dataset.number = row?.number ?? "";
  open.disabled = pick.disabled = !row;
  cell.classList.toggle("is-gone", url === "");
  cell.classList.toggle("is-chosen", Boolean(row && chosen.has(row.number)));
  if (url) open.firstElementChild.src = url;
  else open.firstElementChild.removeAttribute("src");
  marks.replaceChildren();
  if (!row) return;
  pick.checked = chosen.has(row.number);
  pick.setAttribute("aria-label", `Choose “${words(row)}”`);
  open.title = words(row);
  const other = SIDES[row.side] ?? row.side;
  open.setAttribute("aria-label", [words(row), other, row.liked && "liked"].filter(Boolean).join(", "));
  if (other) marks.append(make("span", "", other));
  if (row.liked) {
    const heart = make("span");
    heart.innerHTML = HEART;
    marks.append(heart);
  }
}

function seenPlaces() {
  const height = grid.side + GAP;
  const first = Math.max(0, Math.floor(scroll.scrollTop / height) - SPARE_ROWS) * grid.columns;
  const rows = Math.ceil(scroll.clientHeight / height) + 2 * SPARE_ROWS + 1;
  return [first, Math.min(grid.total, first + rows * grid.columns)];
}

function paintCells() {
  const [first, end] = seenPlaces();
  for (const [place, cell] of cells) {
    if (place >= first && place < end) continue;
    cell.remove();
    cells.delete(place);
  }
  for (let place = first; place < end; place += 1) paintCell(cells.get(place) ?? makeCell(place), rowAt(place));
  for (let page = Math.floor(first / PAGE); page * PAGE < end; page += 1) loadPage(page);
  fetchThumbnails();
}

let fetching = false;

async function fetchThumbnails() {
  if (fetching) return;
  fetching = true;
  try {
    for (;;) {
      const [first, end] = seenPlaces();
      const numbers = [];
      for (let place = first; place < end && numbers.length < BATCH; place += 1) {
        const row = rowAt(place);
        if (row && !thumbnails.has(row.number)) numbers.push(row.number);
      }
      if (!numbers.length || !(await learn(numbers))) return;
      const [from, to] = seenPlaces();
      for (let place = from; place < to; place += 1) if (cells.has(place)) paintCell(cells.get(place), rowAt(place));
    }
  } finally {
    fetching = false;
  }
}

// Gets thumbnails; whether there was an answer. Those that were not used for longest go.
async function learn(numbers) {
  const answer = await ask("history_thumbnails", { numbers });
  if (!answer) return false;
  for (const number of numbers) {
    const webp = answer.pictures[number];
    thumbnails.set(number, webp ? `data:image/webp;base64,${webp}` : "");
  }
  for (const number of thumbnails.keys()) {
    if (thumbnails.size <= MOST_KEPT) break;
    thumbnails.delete(number);
  }
  return true;
}

let painting = 0;
scroll.addEventListener("scroll", () => {
  cancelAnimationFrame(painting);
  painting = requestAnimationFrame(paintCells);
}, { passive: true });
new ResizeObserver(layOut).observe(scroll);

function focusPlace(place) {
  const top = Math.floor(place / grid.columns) * (grid.side + GAP);
  if (top < scroll.scrollTop) scroll.scrollTop = top;
  else if (top + grid.side > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = top + grid.side - scroll.clientHeight;
  paintCells();
  cells.get(place)?.firstElementChild.focus({ preventScroll: true });
}

space.addEventListener("keydown", (event) => {
  const cell = event.target.closest(".history-cell");
  const place = [...cells].find(([, one]) => one === cell)?.[0];
  const row = place === undefined ? null : rowAt(place);
  if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid.columns, ArrowDown: grid.columns };
  if (steps[event.key] !== undefined) {
    event.preventDefault();
    const to = place + steps[event.key];
    if (to >= 0 && to < grid.total) focusPlace(to);
  } else if (event.key.toLowerCase() === "l") like([row], !row.liked);
  else if (event.key === "Delete" && !grid.wanted.trashed) moveToTrash([row]);
});
