"use strict";
// Sorts, filters and highlights; the page is whole without it.
const all = (what, where = document) => [...where.querySelectorAll(what)];
const keyed = new Map(); // what is of a setting, by its key
for (const part of all("[data-of]")) {
  const key = part.dataset.of;
  keyed.set(key, [...(keyed.get(key) ?? []), part]);
}

// --- Sorting: bodies move, so that runs stay with their setting.
function value(body, column) {
  const cell = body.rows[0].cells[column];
  const text = cell?.dataset.value ?? cell?.textContent.trim() ?? "";
  return text === "" || text === "nan" || text === "–" ? null : text;
}

function compare(one, other) {
  const [x, y] = [Number(one), Number(other)];
  return Number.isNaN(x) || Number.isNaN(y) ? one.localeCompare(other, "en", { numeric: true }) : x - y;
}

function sort(heading) {
  const table = heading.closest("table");
  const first = heading.dataset.first === "descending" ? "descending" : "ascending";
  const now = heading.ariaSort ?? heading.getAttribute("aria-sort");
  const order = now === "none" ? first : now === "ascending" ? "descending" : "ascending";
  for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const rows = [...table.tBodies].map((body) => [body, value(body, heading.cellIndex)]);
  rows.sort(([, x], [, y]) =>
    x === null || y === null ? (x === null) - (y === null) : sign * compare(x, y));
  table.append(...rows.map(([body]) => body));
}

// --- Filtering: a run matches if all words do; a setting shows if one of its runs does.
function matches(row, words, state) {
  const told = row.dataset.words.toLowerCase();
  const settings = told.split(/\s+/);
  return (!state || row.dataset.state === state) && words.every((word) =>
    word.includes("=")
      ? settings.some((one) => one === word || one.endsWith("." + word))
      : told.includes(word));
}

function filter() {
  const words = document.getElementById("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  const state = document.getElementById("state").value;
  let shown = 0;
  const runs = all("tr.run");
  const kept = new Set();
  for (const row of runs) {
    const match = matches(row, words, state);
    row.classList.toggle("off", !match);
    shown += match;
    if (match) kept.add(row.parentNode.dataset.of);
  }
  for (const [key, parts] of keyed) {
    for (const part of parts) {
      part.classList.toggle("off", !kept.has(key));
      if (part.tagName === "TBODY") part.hidden = !kept.has(key);
    }
  }
  all("tr.run").forEach(fold);
  document.getElementById("count").value =
    shown === runs.length ? "" : `${shown} of ${runs.length} runs`;
}

// --- Runs of a setting open and close.
function fold(row) {
  const open = row.parentNode.querySelector(".open").getAttribute("aria-expanded") === "true";
  row.hidden = !open || row.classList.contains("off");
}

function open(button, to) {
  button.setAttribute("aria-expanded", to);
  all("tr.run", button.closest("tbody")).forEach(fold);
}

// --- What is pointed at stands out in every chart.
let lit = null;
function light(key) {
  if (key === lit) return;
  for (const part of keyed.get(lit) ?? []) mark(part, false);
  for (const part of keyed.get(key) ?? []) mark(part, true);
  lit = key;
}

function mark(part, on) {
  part.classList.toggle("lit", on);
  part.closest("svg")?.classList.toggle("lit", on);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.matches(".sort")) sort(button.closest("th"));
  if (button?.matches(".open")) open(button, button.getAttribute("aria-expanded") !== "true");
  if (button?.id === "every") {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", on);
    all(".open").forEach((each) => open(each, on));
  }
});
document.addEventListener("input", filter);
document.addEventListener("submit", (event) => event.preventDefault());
for (const kind of ["pointerover", "focusin"]) {
  document.addEventListener(kind, (event) =>
    light(event.target.closest?.("[data-of]")?.dataset.of ?? null));
}

all(".controls").forEach((part) => (part.hidden = false));
all(".open").forEach((each) => open(each, false));
