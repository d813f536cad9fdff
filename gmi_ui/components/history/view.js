// One picture large, with what is known of it, where it came from, and what can be made of it.
const viewRole = (name) => view.querySelector(`[data-role="${name}"]`);
const tags = view.querySelector(".history-tags input");
let viewed = null; // the picture that is shown
let looking = 0;

async function openView(number) {
  const asked = (looking += 1);
  const picture = await ask("history_picture", { number });
  if (!picture || asked !== looking) return;
  viewed = picture;
  const isNew = !view.open;
  if (isNew) view.showModal();
  say("");
  paintView();
  if (isNew || document.activeElement?.disabled) view.focus(); // keys reach no button that cannot be pressed
}

function fact(name, value) {
  if (value === null || value === undefined || value === "") return null;
  const part = document.createElement("div");
  part.append(make("dt", "", name), make("dd", "", value));
  return part;
}

function paintView() {
  const { side } = viewed;
  const image = view.querySelector(".viewer-picture img");
  image.src = `data:image/jpeg;base64,${viewed.jpeg}`;
  image.alt = words(viewed);
  view.querySelector(".viewer-title").textContent = dateOf(viewed.made);
  view.querySelector(".viewer-prompt").textContent = words(viewed);
  const facts = [
    ["Model", viewed.model],
    ["Seed", viewed.seed],
    ["Step", viewed.step],
    ["Size", `${viewed.width} x ${viewed.height}`],
    ["Side", side === "ours" ? "" : SIDES[side] ?? side],
    ["Text score", viewed.score?.toFixed(3)],
    ["Fit", viewed.fit === null ? "" : `${Math.round(100 * viewed.fit)} %`],
  ];
  view.querySelector(".history-facts").replaceChildren(...facts.map(([name, value]) => fact(name, value)).filter(Boolean));
  view.querySelector("pre").textContent = viewed.settings;
  tags.value = viewed.tags;
  paintLike();
  viewRole("delete").hidden = viewed.trashed;
  viewRole("more").hidden = !viewed.has_more;
  viewRole("back").hidden = !viewed.trashed;
  const place = placeOf(viewed.number);
  viewRole("newer").disabled = place <= 0;
  viewRole("older").disabled = place < 0 || place >= grid.total - 1;
  paintFamily();
}

function paintLike() {
  viewRole("like").setAttribute("aria-pressed", String(viewed.liked));
}

// A tree by indentation: each below what it was made from.
async function paintFamily() {
  const { steps, missing } = viewed.family;
  const place = view.querySelector(".history-family");
  place.hidden = steps.length < 2 && !missing;
  place.querySelector("p").hidden = !missing;
  if (place.hidden) return;
  const children = new Map();
  for (const step of steps) children.set(step.parent, [...(children.get(step.parent) ?? []), step]);
  const ordered = [];
  const descend = (parent, depth) => {
    for (const step of children.get(parent) ?? []) {
      ordered.push([step, depth]);
      descend(step.number, depth + 1);
    }
  };
  descend(null, 0);
  const { number } = viewed;
  const unknown = ordered.map(([step]) => step.number).filter((one) => !thumbnails.has(one)).slice(0, BATCH);
  if (unknown.length) await learn(unknown);
  if (viewed?.number !== number) return;
  place.querySelector("ol").replaceChildren(...ordered.map(([step, depth]) => familyStep(step, Math.min(depth, 6))));
  place.querySelector('[aria-current="true"]')?.scrollIntoView({ block: "nearest" });
}

function familyStep(step, depth) {
  const item = document.createElement("li");
  item.style.setProperty("--depth", depth);
  const button = make("button");
  button.type = "button";
  button.setAttribute("aria-current", String(step.number === viewed.number));
  const image = Object.assign(document.createElement("img"), { alt: "" });
  if (thumbnails.get(step.number)) image.src = thumbnails.get(step.number);
  const text = document.createElement("span");
  text.append(make("b", "", step.how[0].toUpperCase() + step.how.slice(1)), words(step));
  button.append(image, text);
  button.addEventListener("click", () => openView(step.number));
  item.append(button);
  return item;
}

async function moveView(by) {
  const place = placeOf(viewed.number) + by;
  if (place < 0 || place >= grid.total) return;
  if (!rowAt(place)) await loadPage(Math.floor(place / PAGE));
  if (rowAt(place)) openView(rowAt(place).number);
}

function closeView() {
  looking += 1;
  view.close();
  const place = viewed ? placeOf(viewed.number) : -1;
  viewed = null;
  if (place >= 0) focusPlace(place);
}

async function toTab(name, more = {}) {
  const answer = await ask(name, { number: viewed.number, ...more });
  if (!answer) return;
  closeView();
  window.studio.goTo(answer.task);
}

async function likeViewed() {
  viewed.liked = !viewed.liked;
  paintLike();
  await like([{ number: viewed.number, liked: viewed.liked }], viewed.liked);
}

viewRole("newer").addEventListener("click", () => moveView(-1));
viewRole("older").addEventListener("click", () => moveView(1));
viewRole("like").addEventListener("click", likeViewed);
viewRole("close").addEventListener("click", closeView);
viewRole("restore").addEventListener("click", () => toTab("history_restore"));
viewRole("more").addEventListener("click", () => toTab("history_more"));
for (const button of view.querySelectorAll("[data-to]")) {
  button.addEventListener("click", () => toTab("history_open", { to: button.dataset.to }));
}
viewRole("save").addEventListener("click", async () => {
  const answer = await ask("history_save", { number: viewed.number });
  if (answer) window.studio.download(answer.path);
});
viewRole("delete").addEventListener("click", async () => {
  const row = { number: viewed.number };
  const place = placeOf(row.number);
  if (!(await moveToTrash([row]))) return;
  closeView();
  if (grid.total) focusPlace(Math.min(Math.max(place, 0), grid.total - 1));
});
viewRole("back").addEventListener("click", async () => {
  if (await putBack([viewed.number])) closeView();
});
tags.addEventListener("change", () => ask("history_mark", { numbers: [viewed.number], tags: tags.value }));
view.addEventListener("cancel", (event) => {
  event.preventDefault();
  closeView();
});
view.addEventListener("click", (event) => { if (event.target === view) closeView(); });
view.addEventListener("keydown", (event) => {
  if (event.target.matches("input, pre, summary") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "ArrowLeft") moveView(-1);
  else if (event.key === "ArrowRight") moveView(1);
  else if (event.key.toLowerCase() === "l") likeViewed();
  else if (event.key === "Delete" && !viewed.trashed) viewRole("delete").click();
});
