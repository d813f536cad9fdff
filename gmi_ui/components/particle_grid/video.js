// The video of a run: what it shows is chosen in a dialog; while it is drawn, the page asks how far it is.
const videoDialog = element.querySelector(".video-dialog");
const videoForm = videoDialog.querySelector("form");
const videoProgress = element.querySelector(".video-progress");
const VIDEO_INTERVAL = 400; // ms
const video = { index: null, asked: new Set(), following: false };

function videoChoices(frame) {
  const names = Object.keys(frame.sides ?? {});
  const choices = names.map((name) => [name, frame.titles[name]]);
  if (names.length > 1) choices.unshift(["both", video.index === null ? "Both sides" : "Both sides, the same seed"]);
  return choices;
}

// index: the one picture that it shows, null for all; side: the one that is offered first.
function openVideoDialog(index, side) {
  video.index = index;
  const what = index === null ? "Save a video of the run" : `Save a video of picture ${index + 1}`;
  videoDialog.querySelector("h2").textContent = what;
  const options = videoChoices(feed.frame).map(([value, text]) => new Option(text, value, false, value === side));
  videoForm.elements.side.replaceChildren(...options);
  const missing = videoDialog.querySelector(".video-missing");
  missing.textContent = props.mp4_missing;
  missing.hidden = !props.mp4_missing;
  videoForm.querySelector('[value="mp4"]').disabled = Boolean(props.mp4_missing);
  videoDialog.returnValue = "";
  videoDialog.showModal();
}

async function askForVideo() {
  const { format, side, curves } = videoForm.elements;
  const wanted = { format: format.value, side: side.value, curves: curves.checked, index: video.index };
  const answer = await server.save_video(request(wanted));
  if (answer?.id) video.asked.add(answer.id);
  else if (viewer.open) closeViewer(); // the message is behind it
  wakeFeed();
  followVideo();
}

function videoText({ phase, place, share, left }) {
  if (phase === "waiting") return place > 1 ? `Video: ${place} runs are before it` : "Video: waiting for the run before it";
  const parts = [`Drawing the video: ${Math.round(100 * (share ?? 0))} %`];
  if (left !== null && left >= 3) parts.push(`${duration(left)} left`);
  return parts.join("  \u00b7  ");
}

function paintVideo(work) {
  const isGoing = Boolean(work?.id) && !work.is_over;
  videoProgress.hidden = !isGoing;
  for (const role of ["video", "video-one"]) element.querySelector(`[data-role="${role}"]`).disabled = isGoing;
  if (isGoing) {
    videoProgress.querySelector("span").textContent = videoText(work);
    videoProgress.querySelector("progress").value = work.share ?? 0;
  } else if (work?.path && video.asked.delete(work.id)) {
    window.studio.download(work.path);
  }
  return isGoing;
}

async function followVideo() {
  if (video.following) return;
  video.following = true;
  try {
    while (paintVideo(await server.video_state(request()))) {
      await new Promise((resolve) => setTimeout(resolve, VIDEO_INTERVAL));
    }
    wakeFeed(); // where it failed, the message is there now
  } finally {
    video.following = false;
  }
}

videoDialog.addEventListener("close", () => {
  if (videoDialog.returnValue === "yes") askForVideo();
});
element.querySelector('[data-role="video"]').addEventListener("click", () => openVideoDialog(null, "both"));
viewerRole("video-one").addEventListener("click", () => openVideoDialog(viewed.index, viewed.side));
element.querySelector('[data-role="video-cancel"]').addEventListener("click", async () => {
  await server.cancel_video(request());
});
