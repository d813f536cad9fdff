// The two grids of buttons. Elements are made once per number of pictures and only their contents change.
const sidesPlace = element.querySelector(".sides");
const sideTemplate = element.querySelector('template[data-role="side"]');
const SIDE_TITLES = { ours: "With repulsion", baseline: "Baseline" };
const pictureUrl = (cell) => `data:image/jpeg;base64,${cell}`;

function columnsFor(count) {
  if (count <= 3) return count;
  if (count === 4) return 2;
  if ([5, 6, 9].includes(count)) return 3;
  if (count <= 16) return 4;
  return Math.min(8, Math.ceil(Math.sqrt(count)));
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
  score.textContent = "\u2013";
  cell.append(picture, score);
  cell.addEventListener("click", () => openViewer(sideName, index));
  return cell;
}

function makeSide(name, count) {
  const root = sideTemplate.content.firstElementChild.cloneNode(true);
  root.dataset.side = name;
  root.querySelector(".side-title").textContent = SIDE_TITLES[name];
  const cells = root.querySelector(".cells");
  cells.setAttribute("aria-label", `Pictures, ${SIDE_TITLES[name].toLowerCase()}`);
  cells.style.setProperty("--columns", columnsFor(count));
  cells.append(...Array.from({ length: count }, (_, index) => makeCell(name, index)));
  return root;
}

function arrangeSides(frame) {
  const wanted = `${frame.run}:${frame.expected.join()}:${frame.count}`;
  if (sidesPlace.dataset.arranged === wanted) return;
  sidesPlace.dataset.arranged = wanted;
  sidesPlace.dataset.count = frame.expected.length;
  sidesPlace.replaceChildren(...frame.expected.map((name) => makeSide(name, frame.count)));
}

function paintCells(root, name, side) {
  root.querySelectorAll(".cell").forEach((cell, index) => {
    const picture = cell.firstElementChild;
    const url = pictureUrl(side.cells[index]);
    if (picture.src !== url) picture.src = url;
    picture.hidden = false;
    const score = side.scores[index].toFixed(3);
    cell.lastElementChild.textContent = score;
    cell.setAttribute("aria-label", `${SIDE_TITLES[name]}, picture ${index + 1}, text score ${score}. Open it large.`);
  });
}

function paintSides(frame) {
  arrangeSides(frame);
  for (const [name, side] of Object.entries(frame.sides)) {
    const root = sidesPlace.querySelector(`[data-side="${name}"]`);
    const others = Object.entries(frame.sides).filter(([other]) => other !== name).map(([, other]) => other);
    for (const figure of ["text", "diversity"]) {
      paintFigure(root, figure, side, others, frame.total, figureRange(frame.sides, figure));
    }
    paintCells(root, name, side);
  }
}
