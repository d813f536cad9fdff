// One picture large: a native modal dialog, so that Tab stays inside and Esc closes it.
const viewer = element.querySelector("dialog.viewer");
const viewerRole = (role) => viewer.querySelector(`[data-role="${role}"]`);
const viewed = { side: "ours", index: 0 };
const splitPlace = viewer.querySelector(".viewer-split");
const split = splitPlace.querySelector("input");
const large = { key: null, before: null }; // what the server was asked for, beyond what the cell shows

const viewedPicture = () => ({ ...viewed, step: shownStep(feed.frame) });

function openViewer(side, index) {
  if (!feed.frame.sides?.[side]) return; // nothing painted there yet
  Object.assign(viewed, { side, index });
  setSplit(0);
  paintViewer();
  if (!viewer.open) viewer.showModal();
}

function paintViewer() {
  const { frame } = feed;
  const sides = shownSides(frame);
  const side = sides?.[viewed.side];
  if (!side) return;
  viewed.index = Math.min(viewed.index, side.cells.length - 1);
  const title = `${frame.titles[viewed.side]}, picture ${viewed.index + 1} of ${side.cells.length}`;
  viewer.querySelector(".viewer-title").textContent = title;
  const words = frame.prompt || "Without words";
  viewer.querySelector(".viewer-prompt").textContent = words;
  viewerRole("score").hidden = !side.scores;
  viewer.querySelector('[data-fact="score"]').textContent = scoreText(side, viewed.index);
  const label = side.labels?.[viewed.index] ?? "";
  viewerRole("label").hidden = !label;
  viewer.querySelector('[data-fact="label"]').textContent = label;
  viewer.querySelector('[data-fact="seed"]').textContent = side.seeds[viewed.index];
  viewer.querySelector('[data-fact="step"]').textContent = `${side.step} of ${side.total}`;
  for (const to of Object.keys(props.hand_over)) viewerRole(`to-${to}`).hidden = !side.leads_to.includes(to);
  paintLarge(frame, side, `${words} (${title})`);
  paintOther(frame, sides);
}

// The cell at once; the picture as it will be saved, and the one before the run, as soon as they come.
function paintLarge(frame, side, words) {
  const picture = viewer.querySelector(".viewer-after");
  const key = [frame.run, viewed.side, viewed.index, side.step].join();
  picture.alt = words;
  if (large.key === key) return;
  picture.src = pictureUrl(side.cells[viewed.index]);
  large.key = key;
  const changes = frame.origin !== null && frame.origin !== undefined; // an edit or a repainting
  splitPlace.hidden = !changes;
  if (changes && (frame.is_over || frame.phase === "paused")) fetchLarge(key);
  else if (changes) large.key = null; // asked for again once the run rests
  if (!changes) {
    for (const part of [".viewer-before", ".viewer-tags"]) viewer.querySelector(part).hidden = true;
  }
}

async function fetchLarge(key) {
  const answer = await server.large_picture(request(viewedPicture()));
  if (large.key !== key) return;
  if (!answer?.after) {
    wakeFeed();
    return;
  }
  const before = viewer.querySelector(".viewer-before");
  viewer.querySelector(".viewer-after").src = pictureUrl(answer.after);
  before.hidden = !answer.before;
  viewer.querySelector(".viewer-tags").hidden = !answer.before;
  splitPlace.hidden = !answer.before;
  if (answer.before) before.src = pictureUrl(answer.before);
}

function setSplit(share) {
  split.value = share;
  viewer.querySelector(".viewer-picture").style.setProperty("--split", `${share}%`);
  viewer.querySelector(".viewer-picture").classList.toggle("is-split", share > 0 && share < 100);
  const [before, after] = viewer.querySelector(".viewer-tags").children;
  before.hidden = share < 15;
  after.hidden = share > 85;
  split.setAttribute("aria-valuetext", share === 0 ? "after" : share === 100 ? "before" : `before up to ${share} %`);
}

function scoreText(side, index) {
  if (!side.scores) return "";
  const cosine = side.scores[index].toFixed(3);
  return side.fits ? `${fitText(side, index)} (cosine ${cosine})` : cosine;
}

// The picture that grew from the same seed on the other side.
function paintOther(frame, sides) {
  const name = viewed.side === "ours" ? "baseline" : "ours";
  const other = sides[name];
  const sameSeed = viewerRole("other");
  sameSeed.hidden = !other;
  if (!other) return;
  sameSeed.querySelector("img").src = pictureUrl(other.cells[viewed.index]);
  const score = other.scores ? `: ${fitText(other, viewed.index)}` : "";
  sameSeed.querySelector("span").textContent = `${frame.titles[name]}, same seed${score}`;
}

function moveViewer(by) {
  const count = feed.frame.sides[viewed.side].cells.length;
  viewed.index = (viewed.index + by + count) % count;
  paintViewer();
}

function switchSide() {
  viewed.side = viewed.side === "ours" ? "baseline" : "ours";
  paintViewer();
}

function closeViewer() {
  viewer.close();
  sidesPlace.querySelector(`[data-side="${viewed.side}"] [data-index="${viewed.index}"]`)?.focus();
}

function viewerButton(text, act) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button quiet";
  button.textContent = text;
  button.addEventListener("click", act);
  return button;
}

function leaveViewerWith(event) {
  const picture = viewedPicture();
  closeViewer();
  trigger(event, picture);
}

async function handOver(to) {
  const picture = viewedPicture();
  closeViewer();
  if (await server.open_cell(request({ ...picture, to }))) window.studio.goTo(to);
  else wakeFeed();
}

// On a focused cell: what the viewer offers for the picture, and the arrows to the next ones.
function actByKey(event, side, index) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !feed.frame.sides?.[side]) return;
  const key = event.key.toLowerCase();
  const cells = [...event.currentTarget.closest(".cells").querySelectorAll(".cell")];
  const top = (cell) => Math.round(cell.getBoundingClientRect().top);
  const columns = cells.filter((cell) => top(cell) === top(cells[0])).length;
  const steps = { arrowleft: -1, arrowright: 1, arrowup: -columns, arrowdown: columns };
  const to = { e: "edit", i: "inpaint", t: "translate" }[key];
  Object.assign(viewed, { side, index });
  if (steps[key]) cells[index + steps[key]]?.focus();
  else if (key === "s") savePictures({ ...viewedPicture(), scale: 1 });
  else if (key === "m" && own.more_like_this) trigger("more_like_this", viewedPicture());
  else if (props.hand_over[to] && shownSides(feed.frame)[side].leads_to.includes(to)) handOver(to);
  else return;
  event.preventDefault();
}

for (const [event, words] of Object.entries(own)) {
  const button = viewerButton(words, () => leaveViewerWith(event));
  button.dataset.role = event === "more_like_this" ? "more" : event;
  viewer.querySelector(".viewer-actions").append(button);
}
for (const [to, words] of Object.entries(props.hand_over)) {
  const button = viewerButton(words, () => handOver(to));
  button.dataset.role = `to-${to}`;
  viewer.querySelector(".viewer-actions").append(button);
}
viewerRole("previous").addEventListener("click", () => moveViewer(-1));
viewerRole("next").addEventListener("click", () => moveViewer(1));
viewerRole("other").addEventListener("click", switchSide);
viewerRole("close").addEventListener("click", closeViewer);
viewerRole("save").addEventListener("click", () => {
  savePictures({ ...viewedPicture(), scale: Number(viewer.querySelector(".viewer-scale").value) });
});
split.addEventListener("input", () => setSplit(Number(split.value)));
viewer.addEventListener("cancel", (event) => {
  event.preventDefault();
  closeViewer();
});
viewer.addEventListener("click", (event) => {
  if (event.target === viewer) closeViewer(); // the backdrop
});
viewer.addEventListener("keydown", (event) => {
  if (event.target === split) return; // the arrows move the slider
  if (event.key === "ArrowLeft") moveViewer(-1);
  else if (event.key === "ArrowRight") moveViewer(1);
});
