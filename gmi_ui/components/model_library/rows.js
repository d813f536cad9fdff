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
  const made = make("p", "shelf-licence");
  made.append(make("span", "", `Licence: ${model.licence}`));
  if (isRestricted(limits)) made.append(make("strong", "shelf-limits", limits));
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
  const row = make("article", "shelf-row");
  row.dataset.name = model.name;
  row.dataset.kind = model.kind;
  const about = make("div", "shelf-about");
  const title = make("h3", "", model.label);
  title.title = model.name;
  const badges = make("p", "shelf-badges");
  badges.append(make("span", "", model.kind === "prompt" ? "Prompt model" : "Generator"), make("span", "", SOURCES[model.source]));
  if (model.loaded) badges.append(make("span", "shelf-loaded", `loaded, ${amount(model.loaded)}`));
  about.append(title, badges, make("p", "shelf-facts", facts(model).join("  ·  ")));
  about.append(make("p", model.usable ? "shelf-use" : "shelf-use shelf-warning", `For: ${model.use}`));
  const needs = make("p", model.fits === false ? "shelf-needs shelf-warning" : "shelf-needs", memoryText(model, n));
  about.append(needs, licence(model, model.limits));
  if (model.place) about.append(make("p", "shelf-facts", `In ${model.place}`));
  const buttons = make("div", "shelf-actions");
  if (model.loaded) buttons.append(makeButton("Unload", model.label, () => actions.unload(model)));
  if (model.source !== "bundled") {
    const word = model.source === "own" ? "Remove" : "Delete";
    buttons.append(makeButton(word, model.label, () => actions.remove(model)));
  }
  row.append(about, buttons);
  return row;
}

function publicRow(model, actions) {
  const row = make("article", "shelf-row");
  row.dataset.name = model.name;
  const about = make("div", "shelf-about");
  about.append(make("h3", "", model.name));
  about.append(make("p", "shelf-facts", [...facts(model), model.shows].join("  ·  ")));
  about.append(make("p", "shelf-use", `For: ${model.use}`));
  about.append(licence(model, model.conditions));
  const paper = make("p", "shelf-facts", model.paper);
  about.append(paper);
  const buttons = make("div", "shelf-actions");
  buttons.append(makeButton("Download", model.name, () => actions.fetch(model.name)));
  row.append(about, buttons);
  return row;
}

function errandRow(errand, actions) {
  const row = make("li", "shelf-errand");
  row.dataset.state = errand.state;
  row.dataset.name = errand.name;
  const goesOn = errand.state === "going on";
  const verb = errand.kind === "fetch" ? "Downloading" : "Opening";
  const ends = { done: "Done", failed: "Not possible", stopped: "Stopped" };
  row.append(make("h3", "", goesOn ? `${verb} ${errand.label}` : `${ends[errand.state]}: ${errand.label}`));
  const told = [];
  if (goesOn) {
    told.push(errand.stopping ? "Stopping" : errand.doing);
    if (errand.speed) told.push(`${amount(errand.speed)}/s`);
    if (errand.left) told.push(`${lasting(errand.left)} left`);
  } else told.push(errand.message);
  const text = make("p", "", told.filter(Boolean).join("  ·  "));
  if (!goesOn) text.setAttribute("role", errand.state === "failed" ? "alert" : "status");
  row.append(text);
  if (goesOn) {
    const bar = make("div", "progress");
    bar.setAttribute("role", "progressbar");
    bar.setAttribute("aria-label", `${verb} ${errand.label}`);
    bar.setAttribute("aria-valuemin", "0");
    bar.setAttribute("aria-valuemax", "100");
    if (errand.share !== null) bar.setAttribute("aria-valuenow", Math.round(100 * errand.share));
    const fill = make("div", "progress-fill");
    fill.style.transform = `scaleX(${errand.share ?? 0})`;
    bar.append(fill);
    row.append(bar);
  }
  row.append(makeButton(goesOn ? "Cancel" : "Dismiss", errand.label, () => actions.cancel(errand)));
  return row;
}

// Keeps the rows that show the same as before: a button that has the focus keeps it.
function paintRows(place, models, key, makeRow) {
  const old = new Map([...place.children].map((row) => [row.dataset.key, row]));
  const rows = models.map((model) => {
    const mark = key(model);
    const row = old.get(mark) ?? makeRow(model);
    row.dataset.key = mark;
    return row;
  });
  const isSame = rows.length === place.children.length && rows.every((row, index) => row === place.children[index]);
  if (!isSame) place.replaceChildren(...rows);
}
