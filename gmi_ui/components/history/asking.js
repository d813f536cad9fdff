// What the component asks the server, and where it is said what went wrong.
const root = element.querySelector(".history");
const find = (selector) => root.querySelector(selector);
const role = (name) => find(`[data-role="${name}"]`);
const notice = find(".notice");
const view = find("dialog.history-view");
const SILENT = "The studio does not answer. If its terminal was closed, start it again.";
const HEART = '<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M8 14.2 2.7 8.9a3.6 3.6 0 0 1 5.1-5.1l.2.2.2-.2a3.6 3.6 0 0 1 5.1 5.1z"/></svg>';
const SIDES = { ours: "", baseline: "baseline" };

function say(text, kind) {
  const told = find(".history-told"); // what is said behind an open view would not be seen
  told.hidden = !text || !view.open;
  told.textContent = text;
  notice.hidden = !text || view.open;
  notice.dataset.kind = kind ?? "info";
  notice.querySelector(".notice-urgent").textContent = kind === "error" ? text : "";
  notice.querySelector(".notice-polite").textContent = kind === "error" ? "" : text;
}

// The answer; null where there is none, which is said.
async function ask(name, more = {}) {
  const answer = await server[name]({ token: window.studio.token, ...more });
  if (!answer) say(SILENT, "error");
  else if (answer.message) say(answer.message, answer.kind);
  return answer && !answer.message ? answer : null;
}

function make(kind, className = "", text = "") {
  return Object.assign(document.createElement(kind), { className, textContent: text });
}

const words = (row) => row.prompt || "Without words";
const dateOf = (seconds) => new Date(1000 * seconds).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
