// The name of the studio, light and dark, the keys, and the queue: what this page has lined up, to reorder and take out.
const find = (selector) => element.querySelector(selector);
const role = (name) => find(`[data-role="${name}"]`);
const queue = { dialog: find("dialog.queue"), waiting: new Map(), timer: 0 };
const INTERVAL = 800; // ms
const ICONS = {
  up: "M8 3.4 13 9l-1.2 1.2L8 6l-3.8 4.2L3 9z",
  down: "M8 12.6 3 7l1.2-1.2L8 10l3.8-4.2L13 7z",
  out: "m4.2 3.1 3.8 3.8 3.8-3.8 1.1 1.1L9.1 8l3.8 3.8-1.1 1.1L8 9.1l-3.8 3.8-1.1-1.1L6.9 8 3.1 4.2z",
};

const request = (more = {}) => ({ token: window.studio.token, ...more });

function iconButton(action, label, act) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "icon-button";
  button.dataset.action = `queue-${action}`;
  button.setAttribute("aria-label", label);
  button.title = label;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[action]);
  svg.append(path);
  button.append(svg);
  button.addEventListener("click", act);
  return button;
}

function statusOf({ phase, share, left }) {
  if (phase === "waiting") return "waits";
  const parts = [phase, share !== null && `${Math.round(100 * share)} %`];
  if (left !== null && left >= 3) parts.push(`${window.studio.duration(left)} left`);
  return parts.filter(Boolean).join("  \u00b7  ");
}

function rowOf(work, index, works) {
  const row = document.createElement("li");
  row.dataset.work = work.id;
  const words = document.createElement("div");
  words.className = "queue-words";
  const title = Object.assign(document.createElement("b"), { textContent: work.title });
  const text = Object.assign(document.createElement("span"), { textContent: work.words || "without a prompt" });
  words.append(title, text, Object.assign(document.createElement("small"), { textContent: statusOf(work) }));
  row.append(words);
  const waits = (other) => other?.phase === "waiting";
  const change = (asked) => async () => paint(await server.queue_change(request({ id: work.id, ...asked })));
  if (waits(work) && waits(works[index - 1])) {
    row.append(iconButton("up", `Before: ${work.title}, ${work.words}`, change({ with: works[index - 1].id })));
  }
  if (waits(work) && waits(works[index + 1])) {
    row.append(iconButton("down", `After: ${work.title}, ${work.words}`, change({ with: works[index + 1].id })));
  }
  const label = waits(work) ? "Take out of the queue" : "Stop";
  row.append(iconButton("out", `${label}: ${work.title}, ${work.words}`, change({ out: true })));
  return row;
}

function paint(state) {
  if (!state?.works) return;
  const { works, others } = state;
  // What holds the focus may be drawn anew: it goes to the same button of the same work.
  const held = document.activeElement?.closest(".queue-rows li")?.dataset.work;
  const action = document.activeElement?.dataset.action;
  find(".queue-rows").replaceChildren(...works.map(rowOf));
  if (held) (find(`[data-work="${held}"] [data-action="${action}"]`) ?? find("dialog.queue .button"))?.focus();
  const waiting = works.filter((work) => work.phase === "waiting").length;
  const told = works.length ? "What comes first is at the top. Pictures of each run are kept in History." : "Nothing is lined up.";
  const ahead = others === 1 ? "One run of another page comes before." : `${others} runs of other pages come before.`;
  find(".queue-told").textContent = others ? `${told} ${ahead}` : told;
  showCount(waiting);
}

function showCount(waiting) {
  find(".queue-count").textContent = waiting || "";
  role("queue").hidden = !waiting && !queue.dialog.open;
}

async function follow() {
  clearTimeout(queue.timer);
  if (!queue.dialog.open) return;
  paint(await server.queue_state(request()));
  queue.timer = setTimeout(follow, INTERVAL);
}

role("queue").addEventListener("click", () => {
  queue.dialog.showModal();
  follow();
});
queue.dialog.addEventListener("close", () => showCount([...queue.waiting.values()].reduce((sum, n) => sum + n, 0)));
document.addEventListener("studio:frame", ({ detail: frame }) => {
  queue.waiting.set(frame.task, frame.upcoming ?? 0);
  if (!queue.dialog.open) showCount([...queue.waiting.values()].reduce((sum, n) => sum + n, 0));
});

// --- the settings of the whole studio: of the server those that the person at this machine may change

const preferences = { dialog: find("dialog.preferences"), form: find(".preferences form"), told: find(".preferences-told") };

function tell(text, kind = "info") {
  preferences.told.textContent = text;
  preferences.told.dataset.kind = kind;
  preferences.told.hidden = !text;
}

function fill(state) {
  const { form } = preferences;
  const usual = new Option("The studio's own choice", "");
  form.elements.model.replaceChildren(usual, ...state.models.map(({ label, name }) => new Option(label, name)));
  if (state.model && !state.models.some(({ name }) => name === state.model)) {
    form.elements.model.append(new Option(`${state.model} (not here now)`, state.model));
  }
  form.elements.model.value = state.model;
  form.elements.keeps.checked = state.keeps;
  form.elements.folder.value = state.folder;
  form.elements.budget.value = state.budget.toFixed(1);
  form.elements.threads.value = state.threads ?? "";
  role("total").textContent = state.total ? `Of ${state.total.toFixed(1)} GB that this machine has.` : "";
  const cores = state.cores === 1 ? "one core" : `${state.cores} cores`;
  role("cores").textContent = `From the next start on; this machine has ${cores}. Another number gives slightly other pictures.`;
}

async function showPreferences() {
  const { form, dialog } = preferences;
  const state = await server.preferences_state(request());
  form.elements.theme.value = localStorage.getItem("studio-theme") ?? "";
  fillLanguages();
  const own = [form.elements.theme, form.elements.language]; // of this browser
  for (const label of form.querySelectorAll("label")) label.hidden = !state?.is_private && !own.some((one) => label.contains(one));
  if (state?.is_private) fill(state);
  tell(state?.is_private ? "" : "Others may use this studio too: what concerns all of them is chosen where it is started.");
  form.dataset.ours = state?.is_private ? "yes" : "";
  if (!dialog.open) dialog.showModal();
}

preferences.form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { elements } = preferences.form;
  window.studio.chooseTheme(elements.theme.value);
  const isSpokenAnew = chooseLanguage(elements.language.value);
  if (!preferences.form.dataset.ours) return isSpokenAnew ? location.reload() : preferences.dialog.close();
  const threads = elements.threads.value.trim();
  const chosen = {
    keeps: elements.keeps.checked,
    folder: elements.folder.value.trim(),
    model: elements.model.value,
    budget: Number(elements.budget.value),
    threads: threads ? Number(threads) : null,
  };
  const answer = await server.preferences_choose(request({ chosen }));
  if (!answer || answer.message) return tell(answer?.message ?? "The studio does not answer. Is it still running?", answer?.kind ?? "error");
  if (isSpokenAnew) return location.reload();
  fill(answer);
  tell("Applied.");
  for (const task of ["history", "models"]) document.dispatchEvent(new CustomEvent("studio:wake", { detail: { task } }));
});
role("settings").addEventListener("click", showPreferences);
role("settings-close").addEventListener("click", () => preferences.dialog.close());

window.studio.applyTheme();
role("theme").addEventListener("click", window.studio.toggleTheme);
role("keys").addEventListener("click", window.studio.showKeys);
watch("value", () => { if (props.value?.task) window.studio.goTo(props.value.task); });
