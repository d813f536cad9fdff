// One row for each model, made anew only when what it shows has changed.
const SOURCES = { bundled: "comes with the studio", fetched: "downloaded", own: "your file" };
const isRestricted = (text) => Boolean(text);

function facts(model) {
  const told = [model.family];
  if (model.resolution) told.push(`${model.resolution} px`);
  told.push(amount(model.size));
  return told;
}

function licence(model, limits) {
  const made = make("p", "library-licence");
  made.append(make("span", "", `Licence: ${model.licence}`));
  if (isRestricted(limits)) made.append(make("strong", "library-limits", limits));
  return made;
}

function memoryText(model, n) {
  const told = [`about ${amount(model.needed)} of memory for ${n === 1 ? "1 picture" : `${n} pictures`}`];
  if (model.kind === "prompt") told[0] = `about ${amount(model.needed)} of memory`;
  if (model.fits === false) told.push("more than is free");
  if (model.seconds) told.push(`about ${lasting(model.seconds)} for a picture and step here`);
  return told.join("  ·  ");
}

function hereRow(model, n, actions) {
  const row = make("article", "library-row");
  row.dataset.name = model.name;
  row.dataset.kind = model.kind;
  const about = make("div", "library-about");
  const title = make("h3", "", model.label);
  title.title = model.name;
  const badges = make("p", "library-badges");
  badges.append(make("span", "", model.kind === "prompt" ? "Prompt model" : "Generator"), make("span", "", SOURCES[model.source]));
  if (model.loaded) badges.append(make("span", "library-loaded", `loaded, ${amount(model.loaded)}`));
  about.append(title, badges, make("p", "library-facts", facts(model).join("  ·  ")));
  about.append(make("p", model.usable ? "library-use" : "library-use library-warning", `For: ${model.use}`));
  const needs = make("p", model.fits === false ? "library-needs library-warning" : "library-needs", memoryText(model, n));
  about.append(needs, licence(model, model.limits));
  if (model.place) about.append(make("p", "library-facts", `In ${model.place}`));
  const buttons = make("div", "library-actions");
  if (model.loaded) buttons.append(makeButton("Unload", model.label, () => actions.unload(model)));
  if (model.source !== "bundled") {
    const word = model.source === "own" ? "Remove" : "Delete";
    buttons.append(makeButton(word, model.label, () => actions.remove(model)));
  }
  row.append(about, buttons);
  return row;
}

// A model that can be had; how far its download is stands where it was asked for.
function publicRow(model, transfer, actions) {
  const row = make("article", "library-row");
  row.dataset.name = model.name;
  const about = make("div", "library-about");
  about.append(make("h3", "", model.name));
  about.append(make("p", "library-facts", [...facts(model), model.shows].join("  ·  ")));
  about.append(make("p", "library-use", `For: ${model.use}`));
  about.append(licence(model, model.conditions));
  const paper = make("p", "library-facts", model.paper);
  about.append(paper);
  row.append(about);
  if (transfer) row.append(transferRow(transfer, actions, "div"));
  if (!transfer || ["failed", "stopped"].includes(transfer.state)) {
    const buttons = make("div", "library-actions");
    buttons.append(makeButton("Download", model.name, () => actions.fetch(model.name)));
    row.append(buttons);
  }
  return row;
}

function transferRow(transfer, actions, kind = "li") {
  const row = make(kind, "library-transfer");
  row.dataset.state = transfer.state;
  row.dataset.name = transfer.name;
  const goesOn = transfer.state === "going on";
  const verb = transfer.kind === "fetch" ? "Downloading" : "Opening";
  const ends = { done: "Done", failed: "Not possible", stopped: "Stopped" };
  row.append(make("h3", "", goesOn ? `${verb} ${transfer.label}` : `${ends[transfer.state]}: ${transfer.label}`));
  const told = [];
  if (goesOn) {
    told.push(transfer.stopping ? "Stopping" : transfer.doing);
    if (transfer.speed) told.push(`${amount(transfer.speed)}/s`);
    if (transfer.left) told.push(`${lasting(transfer.left)} left`);
  } else told.push(transfer.message);
  const text = make("p", "", told.filter(Boolean).join("  ·  "));
  if (!goesOn) text.setAttribute("role", transfer.state === "failed" ? "alert" : "status");
  row.append(text);
  if (goesOn) {
    const bar = make("div", "progress");
    bar.setAttribute("role", "progressbar");
    bar.setAttribute("aria-label", `${verb} ${transfer.label}`);
    bar.setAttribute("aria-valuemin", "0");
    bar.setAttribute("aria-valuemax", "100");
    if (transfer.share !== null) bar.setAttribute("aria-valuenow", Math.round(100 * transfer.share));
    const fill = make("div", "progress-fill");
    fill.style.transform = `scaleX(${transfer.share ?? 0})`;
    bar.append(fill);
    row.append(bar);
  }
  row.append(makeButton(goesOn ? "Cancel" : "Dismiss", transfer.label, () => actions.cancel(transfer)));
  return row;
}

// Keeps the rows that show the same as before: a button that has the focus keeps it, or hands it to the row in its place.
function paintRows(place, models, key, makeRow) {
  const old = new Map([...place.children].map((row) => [row.dataset.key, row]));
  const rows = models.map((model) => {
    const mark = key(model);
    const row = old.get(mark) ?? makeRow(model);
    row.dataset.key = mark;
    return row;
  });
  const isSame = rows.length === place.children.length && rows.every((row, index) => row === place.children[index]);
  if (isSame) return;
  const named = place.contains(document.activeElement) ? document.activeElement.closest("[data-key]").dataset.name : null;
  place.replaceChildren(...rows);
  if (named && !place.contains(document.activeElement)) {
    rows.find((row) => row.dataset.name === named)?.querySelector("button")?.focus({ preventScroll: true });
  }
}
