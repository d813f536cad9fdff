// Puts the parts together: paints a frame, saves pictures, listens to the page.
const welcome = element.querySelector(".welcome");
const ready = element.querySelector(".ready");
const PLACEHOLDERS = 24;
const ARRIVAL_KEY = window.studio.arrivalKey(task);
const SILENT = {
  number: -1, kind: "error",
  text: "The studio does not answer. If its terminal was closed, start it again; this page then goes on by itself.",
};

function makeWelcomePicture(cell, index) {
  const kind = !cell ? "span" : props.picks_examples ? "button" : "img";
  const picture = document.createElement(kind);
  picture.style.setProperty("--order", index);
  if (kind === "button") {
    picture.type = "button";
    picture.setAttribute("aria-label", `Start from example ${index + 1}`);
    picture.append(Object.assign(document.createElement("img"), { src: pictureUrl(cell), alt: "" }));
    picture.addEventListener("click", async () => {
      await server.start_from_example(request({ index }));
      wakeFeed();
    });
  } else if (kind === "img") {
    picture.src = pictureUrl(cell);
    picture.alt = "";
  }
  return picture;
}

function paintWelcome(frame) {
  const place = element.querySelector(".welcome-pictures");
  const state = frame.gallery?.length ? "pictures" : frame.warming ? "warming" : "none";
  place.toggleAttribute("aria-hidden", !props.picks_examples);
  place.hidden = state === "none";
  if (place.dataset.state === state) return;
  place.dataset.state = state;
  const cells = state === "pictures" ? frame.gallery : state === "none" ? [] : Array(PLACEHOLDERS).fill(null);
  place.replaceChildren(...cells.map(makeWelcomePicture));
}

// A picture to work on, and no run yet.
async function paintReady(frame, hasRun) {
  ready.hidden = hasRun || !frame.workspace;
  if (ready.hidden || ready.dataset.number === String(frame.workspace.current)) return;
  const number = frame.workspace.current;
  ready.dataset.number = number;
  const picture = ready.querySelector("img");
  picture.hidden = task === "inpaint"; // it is under the brush already
  if (picture.hidden) return;
  picture.removeAttribute("src");
  const answer = await server.version_picture(request({ number }));
  if (answer?.jpeg && ready.dataset.number === String(number)) picture.src = pictureUrl(answer.jpeg);
}

// The run of the page before, offered until there is another one.
const lastRun = element.querySelector(".last-run");

async function paintLastRun({ run, last, workspace }) {
  lastRun.hidden = Boolean(run || workspace) || !last || sessionStorage.getItem(`${LAST_KEY}-away`) === String(last.number);
  if (lastRun.hidden || lastRun.dataset.number === String(last.number)) return;
  lastRun.dataset.number = last.number;
  lastRun.querySelector('[data-role="last-back"]').hidden = !last.can_return;
  const made = new Date(1000 * last.made).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  const pictures = last.count === 1 ? "1 picture" : `${last.count} pictures`;
  const words = last.prompt || "Without words";
  lastRun.querySelector("p").textContent = `${words}: ${pictures}, step ${last.step} of ${last.total}, ${made}`;
  const answer = await server.last_run(request({ what: "sheet" }));
  const sheet = lastRun.querySelector("img");
  sheet.hidden = !answer?.png;
  if (answer?.png) Object.assign(sheet, { src: `data:image/png;base64,${answer.png}`, alt: `The pictures of “${words}”` });
}

function putLastRunAway() {
  sessionStorage.setItem(`${LAST_KEY}-away`, lastRun.dataset.number);
  lastRun.hidden = true;
}

element.querySelector('[data-role="last-away"]').addEventListener("click", putLastRunAway);
element.querySelector('[data-role="last-back"]').addEventListener("click", async () => {
  await server.last_run(request({ what: "all" }));
  wakeFeed();
});
element.querySelector('[data-role="last-settings"]').addEventListener("click", async () => {
  await server.last_run(request({ what: "settings" }));
  wakeFeed();
});
element.querySelector('[data-role="last-zip"]').addEventListener("click", async () => {
  fetchFile(await server.last_run(request({ what: "zip" })));
});

function paintFrame(frame) {
  const hasRun = Boolean(frame.run);
  paintLastRun(frame);
  welcome.hidden = hasRun || Boolean(frame.workspace);
  paintReady(frame, hasRun);
  sidesPlace.hidden = !hasRun;
  arrangePast(frame);
  if (hasRun) paintSides(frame, shownSides(frame));
  else paintWelcome(frame);
  paintMap(frame, hasRun ? shownSides(frame) : {});
  paintStatus(frame);
  if (viewer.open) paintViewer();
}

// Settings that came from elsewhere (a saved picture dropped on another tab) are shown once.
function takeArrival(frame) {
  if (!frame.arrival || frame.arrival <= Number(sessionStorage.getItem(ARRIVAL_KEY) ?? 0)) return;
  sessionStorage.setItem(ARRIVAL_KEY, frame.arrival);
  trigger("arrive");
}

async function savePictures(which) {
  fetchFile(await server.save_pictures(request({ step: shownStep(feed.frame), ...which })));
}

function fetchFile(answer) {
  if (answer?.path) window.studio.download(answer.path);
  else if (viewer.open) closeViewer(); // the message is behind it
  wakeFeed(); // what was said of it before goes
}

feed.onFrame = (frame) => {
  paintFrame(frame);
  takeArrival(frame);
};
feed.onSilence = (isSilent) => {
  if (isSilent) showNotice(SILENT);
  else if (notice.dataset.number === String(SILENT.number)) showNotice(feed.frame.notice);
};
element.querySelector('[data-role="save-all"]').addEventListener("click", () => {
  savePictures({ scale: Number(element.querySelector('[data-role="save-all-scale"]').value) });
});
document.addEventListener("studio:command", (event) => {
  if (!event.detail.task || event.detail.task === task) command(event.detail.action);
});
document.addEventListener("studio:wake", (event) => {
  if (event.detail.task === task) wakeFeed();
});
new IntersectionObserver(([entry]) => {
  if (!entry.isIntersecting) return;
  fitCells();
  wakeFeed(); // another tab may have brought a picture or settings
}).observe(element.querySelector(".statusbar"));
watch("value", wakeFeed);
wakeFeed();
followVideo();
if (task !== "generate") trigger("arrive"); // this tab was not there when the page was loaded
