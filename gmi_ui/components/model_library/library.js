// Asks for the newest state while something goes on or the tab is shown, and carries clicks to the server.
const BUSY_INTERVAL = 400; // ms
const QUIET_INTERVAL = 5000; // ms, for the memory
const library = element.querySelector(".library");
const find = (selector) => library.querySelector(selector);
const notice = find(".notice");
const fields = { n: find('[data-role="n"]'), budget: find('[data-role="budget"]') };
const isShown = () => element.offsetParent !== null;
let changes = null;
let offers = [];
let asking = false;
let timer = 0;

function say(text, kind) {
  notice.hidden = !text;
  notice.dataset.kind = kind ?? "info";
  find(".notice-urgent").textContent = kind === "error" ? text : "";
  find(".notice-polite").textContent = kind === "error" ? "" : text;
}

// Calls the server; what it has to say is shown, and the state asked for anew.
async function call(name, more = {}) {
  const answer = await server[name]({ token: window.studio.token, ...more });
  if (!answer) say("The studio does not answer. If its terminal was closed, start it again.", "error");
  else if (answer.message) say(answer.message, answer.kind);
  else if (answer.message === "") say("");
  refresh();
  return answer;
}

const actions = {
  async fetch(name) {
    const answer = await call("fetch_model", { name });
    if (!answer?.conditions) return;
    const text = `${answer.name} may be used under conditions: ${answer.conditions}. Licence: ${answer.licence}. ` +
      "Do you accept them? You will not be asked again.";
    if (await ask("Conditions of its licence", text, "Accept and download")) {
      await call("fetch_model", { name: answer.name, accept: true });
    }
  },
  async remove(model) {
    const text = model.source === "own"
      ? `${model.label} leaves the list. A file that was uploaded is deleted, one on this machine's disk stays.`
      : `${model.label}, ${amount(model.size)}, is deleted from the disk. It can be downloaded again.`;
    const word = model.source === "own" ? "Remove" : "Delete";
    if (await ask(`${word} this model?`, text, word)) await call("remove_model", { name: model.name });
  },
  unload: (model) => call("unload_model", { name: model.name }),
  cancel: (transfer) => call("cancel_transfer", { number: transfer.number }),
};

function paintMemory(memory) {
  const parts = [memory.kept ? `${amount(memory.kept)} of models loaded` : "No model is loaded"];
  if (memory.free !== null) parts.push(`${amount(memory.free)} of ${amount(memory.total)} memory free`);
  find(".library-memory-text").textContent = parts.join("  ·  ");
  const used = memory.total && memory.free !== null ? 1 - memory.free / memory.total : 0;
  find(".library-meter").setAttribute("aria-label", `${Math.round(100 * used)} % of the memory is in use`);
  find(".library-meter-fill").style.transform = `scaleX(${used})`;
  if (document.activeElement !== fields.budget) fields.budget.value = (memory.budget / 1e9).toFixed(1);
}

function paint(state) {
  paintMemory(state.memory);
  find(".library-place").textContent = `Downloads are kept in ${state.folder}`;
  const here = find(".library-here");
  paintRows(here, state.here, (model) => JSON.stringify([model, state.n]), (model) => hereRow(model, state.n, actions));
  here.dataset.state = state.here.length ? "full" : "empty";
  const fetches = new Map(state.transfers.filter((one) => one.kind === "fetch").map((one) => [one.name, one]));
  offers = offersOf(state.public, fetches);
  const offered = new Set(offers.map((model) => model.name));
  const keyOf = (model) => JSON.stringify([model, fetches.get(model.name)]);
  paintRows(find(".library-public"), offers, keyOf, (model) => publicRow(model, fetches.get(model.name), actions));
  const rest = state.transfers.filter((one) => one.kind !== "fetch" || !offered.has(one.name));
  const ofPrompts = rest.filter((one) => one.kind === "fetch" && one.name.startsWith("open_clip:"));
  const paintTransfers = (place, shown) => {
    place.hidden = !shown.length;
    paintRows(place, shown, JSON.stringify, (transfer) => transferRow(transfer, actions));
  };
  paintTransfers(find(".library-transfers"), rest.filter((one) => !ofPrompts.includes(one)));
  paintTransfers(find(".library-prompt-transfers"), ofPrompts);
  if (changes !== null && state.changes !== changes) trigger("changed");
  changes = state.changes;
  return state.transfers.some((one) => one.state === "going on");
}

// What can be had, and, until it is dismissed, what was just fetched, at its place.
function offersOf(models, fetches) {
  const shown = [...models];
  const names = new Set(models.map((model) => model.name));
  offers.forEach((model, index) => {
    if (!names.has(model.name) && fetches.has(model.name)) shown.splice(index, 0, model);
  });
  return shown;
}

async function refresh() {
  clearTimeout(timer);
  if (asking) {
    timer = setTimeout(refresh, BUSY_INTERVAL);
    return;
  }
  asking = true;
  let busy = false;
  try {
    const state = await server.library_state({ token: window.studio.token, n: Number(fields.n.value) || 1 });
    if (state?.here) busy = paint(state);
  } finally {
    asking = false;
  }
  if (busy) timer = setTimeout(refresh, BUSY_INTERVAL);
  else if (isShown()) timer = setTimeout(refresh, QUIET_INTERVAL);
}

fields.n.addEventListener("change", refresh);
fields.budget.addEventListener("change", () => call("set_budget", { gigabytes: Number(fields.budget.value) }));
find('[data-role="dismiss"]').addEventListener("click", () => say(""));

// --- prompt models by name: the lists are made when somebody begins to choose

const prompt = find(".library-prompt");
let tags = null;

function options(values) {
  return values.map((value) => {
    const made = document.createElement("option");
    made.value = value;
    return made;
  });
}

async function learnNames() {
  if (tags) return;
  tags = {};
  const names = await server.prompt_model_names({ token: window.studio.token });
  tags = names ?? {};
  find("#library-architectures").replaceChildren(...options(Object.keys(tags)));
}

prompt.architecture.addEventListener("focus", learnNames);
prompt.tag.addEventListener("focus", async () => {
  await learnNames();
  find("#library-tags").replaceChildren(...options(tags[prompt.architecture.value] ?? []));
});
prompt.addEventListener("submit", (event) => {
  event.preventDefault();
  actions.fetch(`open_clip:${prompt.architecture.value.trim()}/${prompt.tag.value.trim()}`);
});

watch("value", refresh);
document.addEventListener("studio:wake", (event) => { if (event.detail.task === "models") refresh(); });
new IntersectionObserver((entries) => { if (entries.some((one) => one.isIntersecting)) refresh(); }).observe(library);
refresh();
