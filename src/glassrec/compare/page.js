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
  const text = cell.dataset.value ?? cell.textContent.trim();
  return text === "–" ? null : text;
}

function compare(one, other) {
  const [x, y] = [Number(one), Number(other)];
  return Number.isNaN(x) || Number.isNaN(y) ? one.localeCompare(other, "en", { numeric: true }) : x - y;
}

function sort(heading) {
  const table = heading.closest("table");
  const now = heading.getAttribute("aria-sort");
  const other = now === "ascending" ? "descending" : "ascending";
  const order = now === "none" ? heading.dataset.first : other;
  for (const each of table.tHead.rows[0].cells) each.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const rows = [...table.tBodies].map((body) => [body, value(body, heading.cellIndex)]);
  rows.sort(([, x], [, y]) =>
    x === null || y === null ? (x === null) - (y === null) : sign * compare(x, y));
  table.append(...rows.map(([body]) => body));
}

// --- Filtering: a run matches if all words do; a setting shows if one of its runs does.
function matches(row, words) {
  const text = row.dataset.words.toLowerCase();
  const settings = text.split(/\s+/);
  return words.every((word) =>
    word.includes("=")
      ? settings.some((one) => one === word || one.endsWith("." + word))
      : text.includes(word));
}

function filter() {
  const words = document.getElementById("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  const runs = all("tr.run");
  for (const row of runs) row.classList.toggle("off", !matches(row, words));
  const shown = all("tr.run:not(.off)");
  const kept = new Set(shown.map((row) => row.parentNode.dataset.of));
  for (const [key, parts] of keyed) {
    for (const part of parts) {
      part.classList.toggle("off", !kept.has(key));
      if (part.tagName === "TBODY") part.hidden = !kept.has(key);
    }
  }
  runs.forEach(fold);
  document.getElementById("count").value =
    shown.length === runs.length ? "" : `${shown.length} of ${runs.length} runs`;
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
  for (const [one, on] of [[lit, false], [key, true]]) {
    for (const part of keyed.get(one) ?? []) {
      part.classList.toggle("lit", on);
      part.closest("svg")?.classList.toggle("lit", on);
    }
  }
  lit = key;
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
