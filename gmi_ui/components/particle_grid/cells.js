// The grids of buttons. Elements are made once per number of pictures and only their contents change.
const sidesPlace = element.querySelector(".sides");
const sideTemplate = element.querySelector('template[data-role="side"]');
const NARROW = window.matchMedia("(max-width: 860px)");
const GAP = 8; // px, as in the style sheet
const SMALLEST_CELL = 72; // px; a page that needs smaller ones to fit the window scrolls instead
const SMALLEST_SIDE = 230; // px; where two do not fit beside each other, one goes below the other
const WIDE_SIDE = 520; // px; from which a grid's title stands in line with its figures
const BELOW = 28; // px kept free below the grids
const pictureUrl = (cell) => `data:image/jpeg;base64,${cell}`;

function usualColumns(count) {
  if (count <= 3) return count;
  if (count === 4) return 2;
  if ([5, 6, 9].includes(count)) return 3;
  if (count <= 16) return 4;
  return Math.min(8, Math.ceil(Math.sqrt(count)));
}

// The columns that make the largest squares in this much room, and how large those are. Of two that are nearly as
// large, the fewer places stay empty the better.
function bestColumns(count, width, height, label) {
  let best = { columns: 1, side: 0, empty: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const byWidth = (width - (columns - 1) * GAP) / columns;
    const byHeight = (height - (rows - 1) * GAP) / rows - label;
    const side = Math.floor(Math.min(byWidth, byHeight));
    const empty = rows * columns - count;
    const isAsGood = side >= 0.94 * best.side && empty < best.empty;
    if (side > best.side * (empty > best.empty ? 1.06 : 1) || isAsGood) best = { columns, side, empty };
  }
  return best;
}

function makeCell(sideName, index) {
  const cell = document.createElement("button");
  cell.type = "button";
  cell.className = "cell";
  cell.dataset.index = index;
  const picture = document.createElement("img");
  picture.alt = "";
  picture.hidden = true;
  const score = document.createElement("span");
  score.className = "cell-score";
  const label = Object.assign(document.createElement("span"), { className: "cell-label" });
  const number = Object.assign(document.createElement("span"), { className: "cell-number", textContent: "\u2013" });
  score.append(label, number);
  cell.append(picture, score);
  cell.addEventListener("click", () => openViewer(sideName, index));
  cell.addEventListener("keydown", (event) => actByKey(event, sideName, index));
  const place = document.createElement("div");
  place.className = "cell-place";
  place.append(cell);
  if (props.has_marks && sideName === "ours") {
    place.append(makeMarks(index));
    place.addEventListener("keydown", (event) => markByKey(event, index));
    cell.setAttribute("aria-keyshortcuts", MARKS.map(({ key }) => key.toUpperCase()).join(" "));
  }
  return place;
}

function makeSide(name, frame) {
  const root = sideTemplate.content.firstElementChild.cloneNode(true);
  const title = frame.titles[name];
  root.dataset.side = name;
  root.querySelector(".side-title").textContent = title;
  root.querySelector(".side-head").append(...frame.figures.map(makeFigure));
  const cells = root.querySelector(".cells");
  cells.setAttribute("aria-label", `Pictures, ${title.toLowerCase()}`);
  cells.append(...Array.from({ length: frame.count }, (_, index) => makeCell(name, index)));
  return root;
}

function arrangeSides(frame) {
  const names = Object.keys(frame.titles);
  const wanted = JSON.stringify([frame.run, frame.titles, frame.count, frame.figures]);
  if (sidesPlace.dataset.arranged === wanted) return;
  sidesPlace.dataset.arranged = wanted;
  sidesPlace.dataset.count = names.length;
  sidesPlace.replaceChildren(...names.map((name) => makeSide(name, frame)));
  fitCells();
}

// The best squares with the sides beside each other, or one above the other.
function bestIn(sides, isStacked) {
  sidesPlace.classList.toggle("is-stacked", isStacked);
  const [first] = sides;
  const grid = first.querySelector(".cells");
  const head = grid.getBoundingClientRect().top - first.getBoundingClientRect().top;
  const top = first.getBoundingClientRect().top + window.scrollY;
  const stack = isStacked ? sides.length : 1;
  const room = (window.innerHeight - BELOW - pastHeight() - top) / stack - head - 2 * GAP;
  const label = grid.querySelector(".cell-score").offsetHeight;
  return { isStacked, ...bestColumns(grid.children.length, grid.clientWidth, room, label) };
}

// Uses the window's height: the larger the squares that still fit below the heads, the better.
function fitCells() {
  const sides = [...sidesPlace.children];
  if (!sides.length || !isShown()) return;
  const count = sides[0].querySelectorAll(".cell").length;
  sidesPlace.classList.toggle("is-wide", sidesPlace.clientWidth >= sides.length * WIDE_SIDE);
  sidesPlace.classList.toggle("is-narrow", sidesPlace.clientWidth < 2 * SMALLEST_SIDE);
  const besides = bestIn(sides, false);
  const isTight = sidesPlace.clientWidth < sides.length * SMALLEST_SIDE;
  const stacked = sides.length > 1 ? bestIn(sides, true) : besides;
  const best = isTight || stacked.side > 1.15 * besides.side ? stacked : besides;
  const fits = !NARROW.matches && best.side >= SMALLEST_CELL;
  sidesPlace.classList.toggle("is-stacked", sides.length > 1 && (NARROW.matches || best.isStacked));
  for (const side of sides) {
    const { style } = side.querySelector(".cells");
    style.setProperty("--columns", fits ? best.columns : usualColumns(count));
    style.setProperty("--cell", fits ? `${best.side}px` : "1fr");
  }
}
new ResizeObserver(fitCells).observe(element);
window.addEventListener("resize", fitCells);

// How well a picture fits its words: the share of random captions that fit it worse, which means the same of every
// prompt model; the bare cosine where that is not known.
const FIT_HELP = "How many of 100 random captions fit this picture worse than its prompt does.";
function fitText(side, index) {
  if (side.fits) return `${Math.round(100 * side.fits[index])} %`;
  return side.scores ? side.scores[index].toFixed(3) : "";
}

function paintCells(root, title, side, frame) {
  root.querySelectorAll(".cell").forEach((cell, index) => {
    const picture = cell.firstElementChild;
    const url = pictureUrl(side.cells[index]);
    if (picture.src !== url) picture.src = url;
    picture.hidden = false;
    const score = fitText(side, index);
    const label = side.labels?.[index] ?? "";
    const caption = cell.lastElementChild;
    caption.querySelector(".cell-label").textContent = label;
    caption.querySelector(".cell-number").textContent = score;
    caption.hidden = !score && !label;
    const told = [label && `, ${label}`, score && `, fit ${score}`].join("");
    caption.title = side.fits ? FIT_HELP : "";
    const marked = root.dataset.side === "ours" ? markWords(frame, index) : "";
    cell.setAttribute("aria-label", `${title}, picture ${index + 1}${told}${marked}. Open it large.`);
    paintMarks(cell.parentElement, frame, index);
  });
}

function paintSides(frame, sides) {
  arrangeSides(frame);
  for (const [name, side] of Object.entries(sides)) {
    const root = sidesPlace.querySelector(`[data-side="${name}"]`);
    const others = Object.entries(sides).filter(([other]) => other !== name).map(([, other]) => other);
    for (const { key } of frame.figures) {
      paintFigure(root, key, side, others, frame.total, figureRange(sides, key));
    }
    paintCells(root, frame.titles[name], side, frame);
  }
}
