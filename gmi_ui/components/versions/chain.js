// One button for each link. A link that was gone on from another one carries an arrow; the current one is marked.
const strip = element.querySelector(".chain");
const list = strip.querySelector("ol");
const thumbnails = new Map(); // by link number: made once, never changed

async function thumbnail(number) {
  if (!thumbnails.has(number)) {
    const answer = await server.easel_picture({ token: window.studio.token, number, small: true });
    if (answer?.jpeg) thumbnails.set(number, `data:image/jpeg;base64,${answer.jpeg}`);
  }
  return thumbnails.get(number);
}

function makeLink(link, easel, position) {
  const item = document.createElement("li");
  const before = easel.links[position - 1];
  item.className = link.parent === null ? "" : link.parent === before?.number ? "follows" : "branches";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "chain-link";
  button.dataset.number = link.number;
  const picture = document.createElement("img");
  picture.alt = "";
  thumbnail(link.number).then((url) => { if (url) picture.src = url; });
  const text = document.createElement("span");
  text.textContent = link.text;
  button.title = link.text;
  button.append(picture, text);
  if (item.className === "branches") {
    const parent = easel.links.findIndex((one) => one.number === link.parent);
    if (parent >= 0) {
      const from = document.createElement("small");
      from.textContent = `from ${parent + 1}`;
      button.append(from);
    }
  }
  button.addEventListener("click", async () => {
    await server.go_to_link({ token: window.studio.token, number: link.number });
    document.dispatchEvent(new CustomEvent("studio:wake", { detail: { task: props.task } }));
  });
  item.append(button);
  return item;
}

function paint(easel) {
  strip.hidden = !easel || easel.links.length < 2; // one picture alone has nothing to go back to
  if (!easel) return;
  const made = easel.links.map((link) => link.number).join();
  if (list.dataset.made !== made) {
    list.dataset.made = made;
    list.replaceChildren(...easel.links.map((link, position) => makeLink(link, easel, position)));
  }
  for (const button of list.querySelectorAll("button")) {
    const isCurrent = Number(button.dataset.number) === easel.current;
    const wasCurrent = button.getAttribute("aria-current") === "true";
    button.setAttribute("aria-current", String(isCurrent));
    if (isCurrent && !wasCurrent) {
      const item = button.parentElement;
      list.scrollTo({ left: item.offsetLeft - list.offsetLeft - 40 });
    }
  }
}

document.addEventListener("studio:frame", (event) => {
  if (event.detail.task === props.task) paint(event.detail.easel);
});
