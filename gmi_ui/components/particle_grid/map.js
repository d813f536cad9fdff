// The pictures of all sides in one plane: near each other where they are alike. It moves while the run goes on.
const mapPlace = element.querySelector(".map");
const mapPlane = mapPlace.querySelector(".map-plane");
const MOST_THUMBNAILS = 40; // pictures; more are dots
const GROWTH = 1.04; // of the scale, a frame at most: what leaves the map is seen at once, room that is left goes slowly
const MAP_KEY = `studio-map-${task}`;
const map = { run: null, scale: 0 };

function meanDistance(places) {
  let sum = 0;
  let count = 0;
  places.forEach(([x, y], i) => places.slice(i + 1).forEach(([otherX, otherY]) => {
    sum += Math.hypot(x - otherX, y - otherY);
    count += 1;
  }));
  return count ? sum / count : 0;
}

function mapText(frame, sides) {
  const told = Object.entries(sides)
    .filter(([, side]) => side.places)
    .map(([name, side]) => `${frame.titles[name]}: ${meanDistance(side.places).toFixed(3)}`);
  const share = frame.map ? ` The plane shows ${Math.round(100 * frame.map.share)} % of how the pictures differ.` : "";
  return `Mean distance on the map. ${told.join(", ")}.${share}`;
}

function makePoint(name, index) {
  const point = document.createElement("span");
  point.className = "map-point";
  Object.assign(point.dataset, { side: name, index });
  point.append(Object.assign(document.createElement("img"), { alt: "" }));
  return point;
}

function arrangePoints(sides) {
  const names = Object.keys(sides).filter((name) => sides[name].places);
  const wanted = names.map((name) => `${name} ${sides[name].places.length}`).join();
  if (mapPlane.dataset.arranged === wanted) return;
  mapPlane.dataset.arranged = wanted;
  const count = names.reduce((sum, name) => sum + sides[name].places.length, 0);
  mapPlane.classList.toggle("has-dots", count > MOST_THUMBNAILS);
  mapPlane.replaceChildren(...names.flatMap((name) => sides[name].places.map((_, index) => makePoint(name, index))));
}

// Pixels for a unit, the same along both axes: distances can be compared.
function mapScale(frame, sides) {
  const places = Object.values(sides).flatMap((side) => side.places ?? []);
  const reach = (axis) => Math.max(...places.map((place) => Math.abs(place[axis])), 1e-6) * 1.03;
  const fits = Math.min(mapPlane.clientWidth / reach(0), mapPlane.clientHeight / reach(1)) / 2;
  Object.assign(map, { scale: map.run === frame.run && map.scale ? Math.min(fits, map.scale * GROWTH) : fits, run: frame.run });
  return map.scale;
}

function paintMap(frame, sides) {
  const isThere = Boolean(frame.map) && Object.values(sides).some((side) => side.places);
  mapPlace.hidden = !isThere;
  if (!isThere) return;
  arrangePoints(sides);
  const scale = mapScale(frame, sides);
  for (const point of mapPlane.children) {
    const side = sides[point.dataset.side];
    const place = side?.places?.[point.dataset.index];
    if (!place) continue;
    point.style.left = `calc(50% + ${(scale * place[0]).toFixed(1)}px)`;
    point.style.top = `calc(50% - ${(scale * place[1]).toFixed(1)}px)`;
    const url = pictureUrl(side.cells[point.dataset.index]);
    if (!mapPlane.classList.contains("has-dots") && point.firstChild.src !== url) point.firstChild.src = url;
  }
  const told = mapText(frame, sides);
  mapPlace.querySelector(".map-told").textContent = told;
  mapPlane.setAttribute("aria-label", `Map of the pictures. ${told}`);
}

// Pointing at a picture marks it in the other place, too.
function markPicture(target) {
  for (const marked of element.querySelectorAll(".is-pointed")) marked.classList.remove("is-pointed");
  const found = target?.closest?.(".map-point, .sides .cell");
  if (!found) return;
  const side = found.dataset.side ?? found.closest("[data-side]").dataset.side;
  const { index } = found.dataset;
  sidesPlace.querySelector(`[data-side="${side}"] .cell[data-index="${index}"]`)?.classList.add("is-pointed");
  mapPlane.querySelector(`[data-side="${side}"][data-index="${index}"]`)?.classList.add("is-pointed");
}

for (const area of [mapPlane, sidesPlace]) {
  area.addEventListener("pointerover", (event) => markPicture(event.target));
  area.addEventListener("pointerleave", () => markPicture(null));
}
sidesPlace.addEventListener("focusin", (event) => markPicture(event.target));
mapPlane.addEventListener("click", (event) => {
  const point = event.target.closest(".map-point");
  if (point) openViewer(point.dataset.side, Number(point.dataset.index));
});
mapPlace.open = localStorage.getItem(MAP_KEY) !== "closed";
new ResizeObserver(() => {
  map.scale = 0;
  if (mapPlane.clientWidth && feed.frame.run) paintMap(feed.frame, shownSides(feed.frame));
}).observe(mapPlane);
mapPlace.addEventListener("toggle", () => localStorage.setItem(MAP_KEY, mapPlace.open ? "open" : "closed"));
