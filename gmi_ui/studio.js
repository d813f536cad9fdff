// Page-wide: the tab's token, the light/dark switch, keys, and pictures dropped anywhere.
(() => {
  "use strict";

  const TOKEN_KEY = "studio-token";
  const THEME_KEY = "studio-theme";

  // The server puts a new token here whenever it sends the page. It is kept for a reload only while the page is left: a
  // tab that is opened from this one copies its storage, and must not find this one's token there.
  const ISSUED = "a-token-that-the-server-has-made";
  const ALIKE = 6; // letters that all tokens of one studio and login begin with

  function tabToken() {
    const kept = sessionStorage.getItem(TOKEN_KEY) ?? "";
    sessionStorage.removeItem(TOKEN_KEY);
    if (/^[0-9a-f]{32}$/.test(kept) && kept.slice(0, ALIKE) === ISSUED.slice(0, ALIKE)) return kept;
    for (const key of Object.keys(sessionStorage)) if (key.startsWith("studio-run")) sessionStorage.removeItem(key);
    return ISSUED;
  }

  const settled = new Set(); // tabs whose controls show what was kept of them
  let actedAt = 0; // when somebody last did something on the page
  for (const act of ["pointerdown", "keydown", "input", "drop"]) {
    document.addEventListener(act, () => { actedAt = performance.now(); }, { capture: true });
  }
  const keptKey = (task) => `studio-kept-${task}`;
  const arrivalKey = (task) => `studio-arrival-${task}`;

  window.studio = {
    token: tabToken(),

    toggleTheme() {
      const dark = document.body.classList.toggle("dark");
      localStorage.setItem(THEME_KEY, dark ? "dark" : "light");
    },

    // "" follows the system.
    chooseTheme(theme) {
      if (theme) localStorage.setItem(THEME_KEY, theme);
      else localStorage.removeItem(THEME_KEY);
      const dark = theme === "dark" || (!theme && matchMedia("(prefers-color-scheme: dark)").matches);
      document.body.classList.toggle("dark", dark);
    },

    showKeys() {
      document.querySelector("dialog.keys").showModal();
    },

    duration(seconds) {
      return seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`;
    },

    // Gradio follows the system's preference; a choice made here wins over it.
    applyTheme() {
      const chosen = localStorage.getItem(THEME_KEY);
      if (chosen) document.body.classList.toggle("dark", chosen === "dark");
    },

    // What the controls of a tab hold, kept so that a reload, or a new page once this one is closed, begins with it.
    keep(task, names, values) {
      if (!settled.has(task)) return; // they do not show yet what was kept
      document.dispatchEvent(new CustomEvent("studio:controls", { detail: { task, actedAt } }));
      const arrival = Number(sessionStorage.getItem(arrivalKey(task)) ?? 0);
      const text = JSON.stringify({ arrival, values: Object.fromEntries(names.map((name, i) => [name, values[i]])) });
      for (const storage of [sessionStorage, localStorage]) {
        try {
          storage.setItem(keptKey(task), text);
        } catch {
          storage.removeItem(keptKey(task)); // no room: rather nothing than something old
        }
      }
    },

    kept(task) {
      const text = sessionStorage.getItem(keptKey(task)) ?? localStorage.getItem(keptKey(task));
      try {
        return JSON.stringify({ arrival: 0, values: {}, ...JSON.parse(text ?? "{}"), settled: settled.has(task) });
      } catch {
        return "";
      }
    },

    settle(task) {
      settled.add(task);
      openPanels(task);
    },

    arrivalKey,

    openPicture() {
      shownOne(".opens-pictures")?.click();
    },

    // Fetches a file that the server has saved for it.
    download(saved) {
      const { root, api_prefix: prefix } = window.gradio_config;
      const link = document.createElement("a");
      // Below the address that this page came from: a proxy's own, which the server need not know.
      const below = new URL(root, location.href).pathname.replace(/\/$/, "");
      const path = saved.split("/").map(encodeURIComponent).join("/"); // # and ? are names of folders too
      link.href = `${location.origin}${below}${prefix ?? ""}/file=${path}`;
      link.download = ""; // its own name
      link.click();
    },

    goTo(task) {
      document.querySelector(`[role="tab"][data-tab-id="${task}"]`)?.click();
      document.dispatchEvent(new CustomEvent("studio:wake", { detail: { task } }));
    },
  };

  // --- the browser tab tells how far a run is; whoever looks elsewhere is told when it is over

  const TITLE = "GMI Studio";
  const GOING = ["waiting", "loading", "running", "paused", "stopping"];
  const OVER = { done: "Done", stopped: "Stopped", failed: "Ended early" };
  const runs = new Map(); // the newest frame of each tab
  let ended = ""; // what ended while nobody looked

  function shareOf(frame) {
    if (frame.phase === "loading") return frame.share ?? 0;
    return frame.total ? frame.step / frame.total : 0;
  }

  function showTitle() {
    const going = [...runs.values()].find((frame) => GOING.includes(frame.phase));
    const told = going ? `${Math.floor(100 * shareOf(going))} %` : ended;
    const title = told ? `${told} \u00b7 ${TITLE}` : TITLE;
    if (document.title !== title) document.title = title;
  }

  document.addEventListener("studio:frame", ({ detail: frame }) => {
    const before = runs.get(frame.task);
    runs.set(frame.task, frame);
    const hasEnded = before && before.run === frame.run && GOING.includes(before.phase) && OVER[frame.phase];
    if (hasEnded && document.hidden) {
      ended = OVER[frame.phase];
      if ("Notification" in window && Notification.permission === "granted") {
        const words = frame.prompt || "Your pictures";
        const told = new Notification(`${ended}: GMI Studio`, { body: words, tag: `studio-${frame.task}` });
        told.addEventListener("click", () => { window.focus(); window.studio.goTo(frame.task); });
      }
    }
    showTitle();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) ended = "";
    showTitle();
  });
  window.addEventListener("pagehide", () => sessionStorage.setItem(TOKEN_KEY, window.studio.token));
  window.addEventListener("pageshow", () => sessionStorage.removeItem(TOKEN_KEY));

  // --- keys: Ctrl+Enter (or Enter in the prompt) runs, Esc stops, ? shows all keys

  const shownOne = (selector) => [...document.querySelectorAll(selector)].find((found) => found.offsetParent !== null);

  function onKey(event) {
    if (document.querySelector("dialog[open]")) return;
    const inPrompt = event.target instanceof Element && event.target.closest(".prompt");
    const runs = event.key === "Enter" && !event.isComposing && !event.shiftKey && (event.ctrlKey || event.metaKey || inPrompt);
    if (runs) {
      event.preventDefault();
      event.stopPropagation();
      shownOne('[data-action="run"]')?.click();
    } else if (event.key === "Escape" && !event.target.closest?.('[aria-expanded="true"]')) {
      shownOne('[data-action="stop"]:not(:disabled)')?.click();
    } else if (event.key === "?" && !event.target.closest?.('textarea, input:not([type="range"])')) {
      window.studio.showKeys();
    }
  }
  document.addEventListener("keydown", onKey, { capture: true });

  // --- lists to choose from: gradio opens them for whoever comes by with Tab, and leaves some open over what is below.
  // They open on a click, an arrow key or typing, and close when the focus goes.

  const isList = (target) => target instanceof Element && target.matches('input[role="combobox"]');
  const isOpen = (list) => list.getAttribute("aria-expanded") === "true";
  let pressed = null; // the list that the pointer is on

  document.addEventListener("pointerdown", (event) => {
    pressed = event.target.closest?.(".wrap-inner, .secondary-wrap") ?? null;
  }, { capture: true });
  document.addEventListener("focus", (event) => {
    if (isList(event.target) && !pressed?.contains(event.target)) event.stopImmediatePropagation();
    pressed = null;
  }, { capture: true });
  function openList(event) {
    if (isList(event.target) && !isOpen(event.target)) { // it has the focus already
      pressed = event.target.parentElement;
      event.target.dispatchEvent(new FocusEvent("focus"));
    }
    pressed = null;
  }
  document.addEventListener("click", openList, { capture: true });
  document.addEventListener("input", openList, { capture: true }); // what is pasted or dictated presses no key
  document.addEventListener("keydown", (event) => { // any key opens them, those that lead away too
    const leads = ["Tab", "Shift", "Control", "Alt", "Meta"].includes(event.key);
    if (isList(event.target) && (leads || (event.key === "Escape" && !isOpen(event.target)))) event.stopImmediatePropagation();
  }, { capture: true });
  document.addEventListener("focusout", (event) => {
    if (!isList(event.target)) return;
    setTimeout(() => {
      const left = event.target;
      if (left !== document.activeElement && isOpen(left)) {
        left.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: false }));
      }
    }, 0);
  });

  // --- panels that a person has opened are open again on the next page

  const PANELS_KEY = "studio-panels";
  const panelName = (head) => `${shownTab()} ${head.firstElementChild.textContent.trim()}`;
  const shownTab = () => document.querySelector('[role="tab"][aria-selected="true"]')?.dataset.tabId;
  function openedPanels() {
    try {
      return new Set(JSON.parse(localStorage.getItem(PANELS_KEY) ?? "[]"));
    } catch {
      return new Set();
    }
  }
  document.addEventListener("click", (event) => {
    const head = event.target.closest?.(".label-wrap");
    if (!head) return;
    setTimeout(() => {
      const opened = openedPanels();
      if (head.classList.contains("open")) opened.add(panelName(head));
      else opened.delete(panelName(head));
      localStorage.setItem(PANELS_KEY, JSON.stringify([...opened]));
    }, 0);
  });
  function openPanels(task) {
    if (shownTab() !== task) return;
    const opened = openedPanels();
    for (const head of document.querySelectorAll(".label-wrap:not(.open)")) {
      if (head.offsetParent !== null && opened.has(panelName(head))) head.click();
    }
  }

  // --- files dropped and pictures pasted anywhere go the way of the shown tab's upload button

  let depth = 0;
  const carriesFiles = (event) => Array.from(event.dataTransfer?.types ?? []).includes("Files");
  const takers = ".takes-pictures";

  function showTarget(shown) {
    const place = document.querySelector(".drop-target");
    const taker = shownOne(takers);
    place.hidden = !shown || !taker;
    place.textContent = taker ? invitation(taker.classList) : "";
  }

  function invitation(classes) {
    if (classes.contains("takes-models")) return "Drop a model's files to open it";
    if (classes.contains("opens-pictures")) return "Drop a picture to work on it";
    return "Drop a saved picture to restore its settings";
  }

  // gradio puts the input before its button; other buttons may have theirs beside them.
  function inputOf(button) {
    const inputs = [...button.parentElement.querySelectorAll('input[type="file"]')];
    return inputs.findLast((input) => input.compareDocumentPosition(button) & Node.DOCUMENT_POSITION_FOLLOWING);
  }

  function take(files) {
    const taker = shownOne(takers);
    const input = taker && inputOf(taker);
    if (!input || !files.length) return;
    const taken = new DataTransfer();
    for (const file of input.multiple ? files : [files[0]]) taken.items.add(file);
    input.files = taken.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }

  document.addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    depth += 1;
    showTarget(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (!carriesFiles(event)) return;
    depth = Math.max(0, depth - 1);
    showTarget(depth > 0);
  });
  document.addEventListener("dragover", (event) => {
    if (carriesFiles(event)) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.stopPropagation();
    depth = 0;
    showTarget(false);
    take([...event.dataTransfer.files]);
  }, { capture: true });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (!file || shownOne(takers)?.classList.contains("takes-models")) return; // words go where the cursor is
    event.preventDefault();
    event.stopPropagation();
    take([file]);
  }, { capture: true });
})();
