// One button for each version. A version that was gone on from another one carries an arrow; the current one is marked.
const strip = element.querySelector(".version-history");
const list = strip.querySelector("ol");
const thumbnails = new Map(); // by version number: made once, never changed

async function thumbnail(number) {
  if (!thumbnails.has(number)) {
    const answer = await server.version_picture({ token: window.studio.token, number, small: true });
    if (answer?.jpeg) thumbnails.set(number, `data:image/jpeg;base64,${answer.jpeg}`);
  }
  return thumbnails.get(number);
}

function makeVersion(version, workspace, position) {
  const item = document.createElement("li");
  const before = workspace.versions[position - 1];
  item.className = version.parent === null ? "" : version.parent === before?.number ? "follows" : "branches";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "version-card";
  button.dataset.number = version.number;
  const picture = document.createElement("img");
  picture.alt = "";
  thumbnail(version.number).then((url) => { if (url) picture.src = url; });
  const text = document.createElement("span");
  text.textContent = version.text;
  button.title = version.text;
  button.append(picture, text);
  if (item.className === "branches") {
    const parent = workspace.versions.findIndex((one) => one.number === version.parent);
    if (parent >= 0) {
      const from = document.createElement("small");
      from.textContent = `from ${parent + 1}`;
      button.append(from);
    }
  }
  button.addEventListener("click", async () => {
    await server.go_to_version({ token: window.studio.token, number: version.number });
    document.dispatchEvent(new CustomEvent("studio:wake", { detail: { task: props.task } }));
  });
  item.append(button);
  return item;
}

function paint(workspace) {
  strip.hidden = !workspace || workspace.versions.length < 2; // one picture alone has nothing to go back to
  if (!workspace) return;
  const made = workspace.versions.map((version) => version.number).join();
  if (list.dataset.made !== made) {
    list.dataset.made = made;
    list.replaceChildren(...workspace.versions.map((version, position) => makeVersion(version, workspace, position)));
  }
  for (const button of list.querySelectorAll("button")) {
    const isCurrent = Number(button.dataset.number) === workspace.current;
    const wasCurrent = button.getAttribute("aria-current") === "true";
    button.setAttribute("aria-current", String(isCurrent));
    if (isCurrent && !wasCurrent) {
      const item = button.parentElement;
      list.scrollTo({ left: item.offsetLeft - list.offsetLeft - 40 });
    }
  }
}

document.addEventListener("studio:frame", (event) => {
  if (event.detail.task === props.task) paint(event.detail.workspace);
});
