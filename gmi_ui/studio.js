// Page-wide: the tab's token, the light/dark switch, keys, and pictures dropped anywhere.
(() => {
  "use strict";

  const TOKEN_KEY = "studio-token";
  const THEME_KEY = "studio-theme";

  // randomUUID needs a secure context, which http on a local network is not.
  function drawToken() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  function tabToken() {
    const kept = sessionStorage.getItem(TOKEN_KEY);
    if (kept && /^[0-9a-f]{32}$/.test(kept)) return kept;
    const fresh = drawToken();
    sessionStorage.setItem(TOKEN_KEY, fresh);
    return fresh;
  }

  window.studio = {
    token: tabToken(),

    toggleTheme() {
      const dark = document.body.classList.toggle("dark");
      localStorage.setItem(THEME_KEY, dark ? "dark" : "light");
    },

    // Gradio follows the system's preference; a choice made here wins over it.
    applyTheme() {
      const chosen = localStorage.getItem(THEME_KEY);
      if (chosen) document.body.classList.toggle("dark", chosen === "dark");
    },

    focusPrompt() {
      document.querySelector("#control-prompt textarea")?.focus();
    },
  };

  // --- keys: Ctrl+Enter (or Enter in the prompt) runs, Esc stops

  function press(action) {
    const button = document.querySelector(`[data-action="${action}"]`);
    if (!button) return false;
    button.click();
    return true;
  }

  function onKey(event) {
    if (document.querySelector("dialog[open]")) return;
    const inPrompt = event.target instanceof Element && event.target.closest("#control-prompt");
    const runs = event.key === "Enter" && !event.isComposing && !event.shiftKey && (event.ctrlKey || event.metaKey || inPrompt);
    if (runs) {
      event.preventDefault();
      event.stopPropagation();
      press("run");
    } else if (event.key === "Escape" && !event.target.closest?.('[aria-expanded="true"]')) {
      const stop = document.querySelector('[data-action="stop"]');
      if (stop && !stop.disabled) stop.click();
    }
  }
  document.addEventListener("keydown", onKey, { capture: true });

  // --- a PNG dropped anywhere goes the way of the "open" button

  let depth = 0;
  const carriesFiles = (event) => Array.from(event.dataTransfer?.types ?? []).includes("Files");
  const showTarget = (shown) => { document.querySelector(".drop-target").hidden = !shown; };

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
    const input = document.querySelector("#restore-picture")?.parentElement?.querySelector('input[type="file"]');
    if (!input || !event.dataTransfer.files.length) return;
    const one = new DataTransfer();
    one.items.add(event.dataTransfer.files[0]);
    input.files = one.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }, { capture: true });
})();
