// What a person marks on our pictures: liked, unlike, pinned. Buttons on each, and keys on the focused one.
const MARKS = [
  { name: "like", key: "l", label: "Like", help: "Like (L): pictures to come are drawn towards it",
    icon: '<path d="M8 14 2.7 8.8a3.5 3.5 0 0 1 5-5l.3.3.3-.3a3.5 3.5 0 0 1 5 5z"/>' },
  { name: "unlike", key: "u", label: "Unlike", help: "Unlike (U): pictures to come keep away from it",
    icon: '<path d="M8 1.6a6.4 6.4 0 1 0 0 12.8A6.4 6.4 0 0 0 8 1.6zm0 1.8c1 0 1.900.3 2.600.8L4.200 10.600A4.600 4.600 0 0 1 8 3.400zm0 9.200c-1 0-1.900-.3-2.600-.8l6.400-6.400A4.600 4.600 0 0 1 8 12.600z"/>' },
  { name: "pin", key: "p", label: "Pin", help: "Pin (P): it stays as it is, and the others keep away from it",
    icon: '<path d="M5 1.800h6v1.500l-1 .7.4 3.400 1.900 1.500v1.500H8.700V14L8 15.400 7.300 14v-3.600H3.700V8.900l1.900-1.500L6 4l-1-.7z"/>' },
];

const marksOf = (frame, index) => frame.marks?.[index] ?? [];

// While the server answers the mark shows as it was asked for.
async function setMark(index, name) {
  const { frame } = feed;
  if (!frame.marks || isPast(frame)) return;
  const isSet = !marksOf(frame, index).includes(name);
  await server.mark(request({ run: frame.run, index, mark: name, is_set: isSet }));
  wakeFeed();
}

function markByKey(event, index) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const mark = MARKS.find(({ key }) => key === event.key.toLowerCase());
  if (!mark) return;
  event.preventDefault();
  setMark(index, mark.name);
}

function makeMarks(index) {
  const place = document.createElement("div");
  place.className = "cell-marks";
  place.setAttribute("role", "group");
  place.setAttribute("aria-label", `Marks of picture ${index + 1}`);
  for (const { name, label, help, icon } of MARKS) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "mark";
    button.dataset.mark = name;
    button.title = help;
    button.setAttribute("aria-label", `${label} picture ${index + 1}`);
    button.innerHTML = `<svg viewBox="0 0 16 16" aria-hidden="true">${icon}</svg>`;
    button.addEventListener("click", () => setMark(index, name));
    place.append(button);
  }
  return place;
}

function paintMarks(place, frame, index) {
  const marks = place.querySelector(".cell-marks");
  if (!marks) return;
  marks.hidden = !frame.marks || isPast(frame);
  const names = marksOf(frame, index);
  place.dataset.marks = names.join(" ");
  for (const button of marks.children) button.setAttribute("aria-pressed", names.includes(button.dataset.mark));
}

// For the picture's own name: what a person who does not see the buttons is told of it.
function markWords(frame, index) {
  const names = marksOf(frame, index);
  return MARKS.filter(({ name }) => names.includes(name)).map(({ name }) => ({ like: ", liked", unlike: ", unlike", pin: ", pinned" })[name]).join("");
}
