// What is done with pictures: liked, deleted and put back, compared, exported. Some are chosen for it first.
const chosenBar = find(".history-chosen");
const undo = find(".history-undo");
let undone = []; // what Undo brings back

function choose(row, isChosen) {
  if (isChosen) chosen.set(row.number, row);
  else chosen.delete(row.number);
  paintChosen();
}

function paintChosen() {
  const isTrash = Boolean(grid.wanted.trashed);
  root.classList.toggle("is-choosing", chosen.size > 0);
  chosenBar.hidden = !chosen.size;
  role("compare").disabled = ![2, 3, 4].includes(chosen.size);
  role("compare").title = role("compare").disabled ? "Choose two to four pictures" : "";
  role("like-all").textContent = [...chosen.values()].every((row) => row.liked) ? "No longer like" : "Like";
  for (const name of ["like-all", "delete-all"]) role(name).hidden = isTrash;
  for (const button of root.querySelectorAll("[data-go-by]")) button.hidden = isTrash;
  role("back-all").hidden = !isTrash;
  paintCells();
  onTotal();
}

function chooseNone() {
  chosen.clear();
  paintChosen();
}

async function like(rows, liked) {
  if (!(await ask("history_mark", { numbers: rows.map((row) => row.number), liked }))) return;
  for (const row of rows) row.liked = liked;
  for (const { rows: known } of grid.pages.values()) {
    for (const row of known) if (rows.some((one) => one.number === row.number)) row.liked = liked;
  }
  if (chosen.size) paintChosen();
  refresh();
}

const counted = (count) => (count === 1 ? "1 picture" : `${count} pictures`);

async function moveToTrash(rows) {
  const numbers = rows.map((row) => row.number);
  if (!(await ask("history_delete", { numbers }))) return false;
  undone = numbers;
  undo.hidden = false;
  undo.firstElementChild.textContent = `Moved ${counted(numbers.length)} to the trash.`;
  chooseNone();
  await refresh();
  return true;
}

async function putBack(numbers) {
  if (!(await ask("history_put_back", { numbers }))) return false;
  undo.hidden = true;
  chooseNone();
  await refresh();
  return true;
}

role("undo").addEventListener("click", () => putBack(undone));
role("like-all").addEventListener("click", () => {
  const rows = [...chosen.values()];
  like(rows, !rows.every((row) => row.liked));
});
role("delete-all").addEventListener("click", () => moveToTrash([...chosen.values()]));
role("back-all").addEventListener("click", () => putBack([...chosen.keys()]));
role("clear").addEventListener("click", chooseNone);
role("export").addEventListener("click", async () => {
  const button = role("export");
  button.disabled = true;
  button.textContent = "Exporting";
  const answer = await ask("history_export", { numbers: [...chosen.keys()] });
  button.disabled = false;
  button.textContent = "Export";
  if (answer) window.studio.download(answer.path);
});

for (const button of root.querySelectorAll("[data-go-by]")) {
  button.addEventListener("click", async () => {
    const answer = await ask("history_go_by", { numbers: [...chosen.keys()], how: button.dataset.goBy });
    if (!answer) return;
    chooseNone();
    window.studio.goTo(answer.task);
  });
}

// --- for good

const question = find("dialog.history-ask");
role("empty").addEventListener("click", () => {
  question.querySelector("p").textContent = `${counted(state.trashed)} in the trash will be deleted from the disk. This cannot be undone.`;
  question.returnValue = "";
  question.showModal();
});
question.addEventListener("close", async () => {
  if (question.returnValue !== "yes" || !(await ask("history_empty_trash"))) return;
  undo.hidden = true;
  chooseNone();
  refresh();
});

// --- two to four beside each other

const compare = find("dialog.history-compare");

async function comparePictures(numbers) {
  const pictures = await Promise.all(numbers.map((number) => ask("history_picture", { number })));
  if (pictures.some((picture) => !picture)) return;
  const place = compare.querySelector(".history-compared");
  place.dataset.count = pictures.length;
  place.replaceChildren(...pictures.map((picture) => {
    const figure = document.createElement("figure");
    const image = Object.assign(document.createElement("img"), { src: `data:image/jpeg;base64,${picture.jpeg}`, alt: words(picture) });
    const caption = document.createElement("figcaption");
    const facts = [picture.model, SIDES[picture.side] ?? picture.side, `seed ${picture.seed}`, `step ${picture.step}`];
    caption.append(make("b", "", words(picture)), document.createElement("br"), facts.filter(Boolean).join("  \u00b7  "));
    if (picture.score !== null) caption.append(`  \u00b7  text score ${picture.score.toFixed(3)}`);
    figure.append(image, caption);
    return figure;
  }));
  compare.showModal();
}

role("compare").addEventListener("click", () => comparePictures([...chosen.keys()]));
role("close-compare").addEventListener("click", () => compare.close());
compare.addEventListener("click", (event) => { if (event.target === compare) compare.close(); });
