// The page in other languages: wherever a text appears that the chosen language has another for, that one is shown.
const LANGUAGE_KEY = "studio-language"; // none: as the browser has it
const SAID = ["aria-label", "placeholder", "title"];
// What people wrote, and what is chosen among by its text, stays as it is.
const VERBATIM = "script, style, textarea, [translate=no], [role=option], .chip, .cell-label, .side-title, .queue-words";
const language = { words: new Map(), patterns: [] };

function spokenHere() {
  const names = Object.keys(props.languages);
  const asked = [localStorage.getItem(LANGUAGE_KEY), ...navigator.languages.map((name) => name.slice(0, 2))];
  return asked.find((name) => names.includes(name)) ?? "en";
}

function learn(words) {
  for (const [english, other] of Object.entries(words)) {
    language.words.set(english, other);
    if (!english.includes("{}")) continue;
    const parts = english.split("{}").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    language.patterns.push([new RegExp(`^${parts.join("(.+?)")}$`), other.split("{}")]);
  }
}

function inOtherWords(text) {
  const trimmed = text.trim();
  if (!trimmed) return text;
  let said = language.words.get(trimmed.replace(/\s+/g, " "));
  for (const [pattern, parts] of said ? [] : language.patterns) {
    const found = pattern.exec(trimmed);
    if (found) {
      const inner = found.slice(1).map((part) => language.words.get(part) ?? part);
      said = parts.map((part, i) => part + (inner[i] ?? "")).join("");
      break;
    }
  }
  return said ? text.replace(trimmed, () => said) : text;
}

function sayNode(node) {
  if (node.parentElement?.closest(VERBATIM)) return;
  const said = inOtherWords(node.data);
  if (said !== node.data) node.data = said;
}

function sayAttributes(node) {
  if (node.closest("[translate=no]")) return;
  for (const name of SAID) {
    const text = node.getAttribute(name);
    if (text === null) continue;
    const said = inOtherWords(text);
    if (said !== text) node.setAttribute(name, said);
  }
}

function sayAll(root) {
  if (root.nodeType === Node.TEXT_NODE) return sayNode(root);
  if (root.nodeType !== Node.ELEMENT_NODE) return;
  const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) sayNode(texts.currentNode);
  for (const node of [root, ...root.querySelectorAll(SAID.map((name) => `[${name}]`).join(","))]) sayAttributes(node);
}

async function speak() {
  const spoken = spokenHere();
  if (spoken === "en") return;
  learn((await server.language_words(request({ language: spoken })))?.words ?? {});
  document.documentElement.lang = spoken;
  sayAll(document.body);
  new MutationObserver((changes) => {
    for (const { type, target, addedNodes } of changes) {
      if (type === "characterData") sayNode(target);
      else if (type === "attributes") sayAttributes(target);
      else addedNodes.forEach(sayAll);
    }
  }).observe(document.body, {
    childList: true, characterData: true, subtree: true, attributes: true, attributeFilter: SAID,
  });
}

function fillLanguages() {
  const { language: list } = preferences.form.elements;
  list.replaceChildren(
    new Option("As the browser has it", ""), ...Object.entries(props.languages).map(([code, name]) => new Option(name, code)),
  );
  list.value = localStorage.getItem(LANGUAGE_KEY) ?? "";
}

// Returns whether the page is to be loaded anew.
function chooseLanguage(code) {
  const before = localStorage.getItem(LANGUAGE_KEY) ?? "";
  if (code) localStorage.setItem(LANGUAGE_KEY, code);
  else localStorage.removeItem(LANGUAGE_KEY);
  return code !== before;
}

speak();
