// One picture large: a native modal dialog, so that Tab stays inside and Esc closes it.
const viewer = element.querySelector("dialog.viewer");
const viewerRole = (role) => viewer.querySelector(`[data-role="${role}"]`);
const viewed = { side: "ours", index: 0 };

function openViewer(side, index) {
  if (!feed.frame.sides?.[side]) return; // nothing painted there yet
  Object.assign(viewed, { side, index });
  paintViewer();
  if (!viewer.open) viewer.showModal();
}

function paintViewer() {
  const { frame } = feed;
  const side = frame.sides?.[viewed.side];
  if (!side) return;
  viewed.index = Math.min(viewed.index, side.cells.length - 1);
  const title = `${SIDE_TITLES[viewed.side]}, picture ${viewed.index + 1} of ${side.cells.length}`;
  viewer.querySelector(".viewer-title").textContent = title;
  const picture = viewer.querySelector(".viewer-picture");
  picture.src = pictureUrl(side.cells[viewed.index]);
  picture.alt = `${frame.prompt} (${title})`;
  viewer.querySelector(".viewer-prompt").textContent = frame.prompt;
  viewer.querySelector('[data-fact="score"]').textContent = side.scores[viewed.index].toFixed(3);
  viewer.querySelector('[data-fact="seed"]').textContent = side.seeds[viewed.index];
  viewer.querySelector('[data-fact="step"]').textContent = `${frame.step} of ${frame.total}`;
  paintOther(frame);
}

// The picture that grew from the same seed on the other side.
function paintOther(frame) {
  const name = viewed.side === "ours" ? "baseline" : "ours";
  const other = frame.sides[name];
  const link = viewerRole("other");
  link.hidden = !other;
  if (!other) return;
  link.querySelector("img").src = pictureUrl(other.cells[viewed.index]);
  link.querySelector("span").textContent =
    `${SIDE_TITLES[name]}, same seed: ${other.scores[viewed.index].toFixed(3)}`;
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

function leaveViewerWith(event) {
  closeViewer();
  trigger(event, { ...viewed });
}

viewerRole("previous").addEventListener("click", () => moveViewer(-1));
viewerRole("next").addEventListener("click", () => moveViewer(1));
viewerRole("other").addEventListener("click", switchSide);
viewerRole("close").addEventListener("click", closeViewer);
viewerRole("save").addEventListener("click", () => savePictures(viewed));
viewerRole("more").addEventListener("click", () => leaveViewerWith("more_like_this"));
viewerRole("reseed").addEventListener("click", () => leaveViewerWith("reseed"));
viewer.addEventListener("cancel", (event) => {
  event.preventDefault();
  closeViewer();
});
viewer.addEventListener("click", (event) => {
  if (event.target === viewer) closeViewer(); // the backdrop
});
viewer.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") moveViewer(-1);
  else if (event.key === "ArrowRight") moveViewer(1);
});
