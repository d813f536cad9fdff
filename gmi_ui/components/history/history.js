// Puts the parts together: the search, the state of the folder, where pictures are kept.
const INTERVAL = 2500; // ms between two looks at whether there is something new, while the tab is shown
const READING_INTERVAL = 700; // ms, while files are read into the index
const empty = find(".history-empty");
const place = find(".history-place");
const form = place.querySelector("form");
const filters = ["words", "task", "model", "since", "until", "liked", "trashed"];
const isShown = () => element.offsetParent !== null;
let state = { is_private: true, keeps: true, revision: 0, models: [], trashed: 0, trouble: "", reading: null };
let timer = 0;
let told = ""; // why pictures are not kept, as far as it was said
let current = null; // a look that goes on
let again = false;

const dayStart = (text, days = 0) => {
  if (!text) return null;
  const [year, month, day] = text.split("-").map(Number);
  return new Date(year, month - 1, day + days).getTime() / 1000;
};

function wantedNow() {
  return {
    words: role("words").value,
    task: role("task").value,
    model: role("model").value,
    since: dayStart(role("since").value),
    until: dayStart(role("until").value, 1), // that day included
    liked: role("liked").checked,
    trashed: role("trashed").checked,
  };
}

const isNarrowed = () => {
  const { words: typed, task, model, since, until, liked } = grid.wanted;
  return Boolean(typed?.trim() || task || model || since || until || liked);
};

// What is said in place of pictures.
function emptyTexts() {
  if (!state.is_private) return ["No history here", state.message];
  if (!state.keeps) return ["Finished pictures are not kept", "Turn it on below, and every finished picture is found here."];
  if (isNarrowed()) return ["Nothing found", "No picture fits the search and the filters."];
  if (grid.wanted.trashed) return ["The trash is empty", "What you delete can be put back from here."];
  if (state.reading) return ["Reading the folder", `The pictures in ${state.folder} are being read.`];
  return ["No pictures yet", "Every finished picture will be kept here, with all that made it. Make some under Generate."];
}

function onTotal() {
  const hasAny = state.is_private && state.keeps && grid.total > 0;
  scroll.hidden = !hasAny;
  empty.hidden = hasAny || root.dataset.state === "loading";
  const [title, sentence] = emptyTexts();
  empty.querySelector("h2").textContent = title;
  empty.querySelector("p").textContent = sentence;
  const parts = hasAny ? [counted(grid.total)] : [];
  if (chosen.size) parts.push(`${chosen.size} chosen`);
  if (state.reading) parts.push(`reading the folder, ${state.reading.done} of ${state.reading.total}`);
  const text = parts.join("  \u00b7  ");
  if (find(".history-count").textContent !== text) find(".history-count").textContent = text;
  role("empty").hidden = !(grid.wanted.trashed && state.trashed);
  if (hasAny && !cells.size) layOut();
}

function paintState() {
  root.dataset.state = "ready";
  for (const part of [find(".history-bar"), find(".history-line")]) part.hidden = !state.is_private || !state.keeps;
  place.hidden = !state.is_private;
  if (!state.is_private) return onTotal();
  if (!form.contains(document.activeElement)) {
    form.keeps.checked = state.keeps;
    form.folder.value = state.folder;
  }
  const menu = role("model");
  const names = JSON.stringify(state.models);
  if (menu.dataset.names !== names) {
    menu.dataset.names = names;
    const kept = menu.value;
    menu.replaceChildren(new Option("All models", ""), ...state.models.map((model) => new Option(model.label, model.name)));
    menu.value = state.models.some((model) => model.name === kept) ? kept : "";
  }
  if (state.trouble !== told) {
    told = state.trouble; // once: it can be put away
    say(told, "warning");
  }
  onTotal();
}

// Looks whether there is something new; pages that are seen are then asked for again.
function refresh() {
  again = Boolean(current);
  current ??= lookUntilQuiet().finally(() => { current = null; });
  return current;
}

async function lookUntilQuiet() {
  clearTimeout(timer);
  do {
    again = false;
    await look();
  } while (again);
  if (isShown()) timer = setTimeout(refresh, state.reading ? READING_INTERVAL : INTERVAL);
}

async function look() {
  const answer = await server.history_state({ token: window.studio.token });
  if (!answer) return;
  if (answer.is_private === false) state = { ...state, ...answer };
  else if (answer.message) say(answer.message, answer.kind);
  else state = answer;
  paintState();
  if (!state.is_private || !state.keeps || state.revision === grid.revision) return;
  grid.revision = state.revision;
  if (grid.total) paintCells();
  else await loadPage(0);
}

let typing = 0;
function search() {
  clearTimeout(typing);
  typing = setTimeout(() => {
    undo.hidden = true;
    chosen.clear();
    want(wantedNow());
    paintChosen();
  }, 150);
}
for (const name of filters) {
  role(name).addEventListener("input", search);
}
role("dismiss").addEventListener("click", () => say(""));

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await ask("history_choose", { keeps: form.keeps.checked, folder: form.folder.value.trim() });
  if (!answer) return;
  say("");
  state = answer;
  thumbnails.clear();
  grid.revision = -1;
  want(wantedNow());
  document.activeElement?.blur();
  paintState();
  refresh();
});

grid.wanted = wantedNow();
document.addEventListener("studio:wake", (event) => { if (event.detail.task === "history") refresh(); });
document.addEventListener("studio:frame", (event) => { if (event.detail.is_over && isShown()) refresh(); });
new IntersectionObserver((entries) => {
  if (!entries.some((one) => one.isIntersecting)) return;
  refresh();
  layOut();
}).observe(root);
refresh();
