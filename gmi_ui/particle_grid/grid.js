// Puts the parts together: paints a frame, saves pictures, listens to the page.
const welcome = element.querySelector(".welcome");
const PLACEHOLDERS = 24;
const SILENT = {
  number: -1, kind: "error",
  text: "The studio does not answer. If its terminal was closed, start it again; this page then goes on by itself.",
};

function paintWelcome(frame) {
  const place = element.querySelector(".welcome-pictures");
  const state = frame.gallery?.length ? "pictures" : frame.warming ? "warming" : "none";
  if (place.dataset.state === state) return;
  place.dataset.state = state;
  place.hidden = state === "none";
  const cells = state === "pictures" ? frame.gallery : Array(PLACEHOLDERS).fill(null);
  place.replaceChildren(...cells.map((cell, index) => {
    const picture = document.createElement(cell ? "img" : "span");
    if (cell) picture.src = pictureUrl(cell);
    picture.style.setProperty("--order", index);
    return picture;
  }));
}

function paintFrame(frame) {
  const hasRun = Boolean(frame.run);
  welcome.hidden = hasRun;
  sidesPlace.hidden = !hasRun;
  if (hasRun) paintSides(frame);
  else paintWelcome(frame);
  paintStatus(frame);
  if (viewer.open) paintViewer();
}

async function savePictures(which) {
  const answer = await server.save_pictures({ token: window.studio.token, ...which });
  if (answer?.path) {
    const { root, api_prefix: prefix } = window.gradio_config;
    const link = document.createElement("a");
    link.href = `${root}${prefix ?? ""}/file=${encodeURI(answer.path)}`;
    link.download = ""; // its own name
    link.click();
  } else {
    if (viewer.open) closeViewer(); // the message is behind it
    wakeFeed();
  }
}

feed.onFrame = paintFrame;
feed.onSilence = (isSilent) => {
  if (isSilent) showNotice(SILENT);
  else if (notice.dataset.number === String(SILENT.number)) showNotice(feed.frame.notice);
};
element.querySelector('[data-role="save-all"]').addEventListener("click", () => savePictures({}));
document.addEventListener("studio:command", (event) => command(event.detail.action));
watch("value", wakeFeed);
wakeFeed();
