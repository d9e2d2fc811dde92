// Totals, and the stock of each SKU as a bar with its numbers.

import { byId, element, facts, keep, say, svgElement } from "./page.js";
import { count, duration } from "./words.js";

const PARTS = ["available", "reserved", "allocated"];

/** The leading keeper publishes totals once a second; the age of older totals is shown. */
const LATE_SECONDS = 5;

export function showTotals({ totals, default_hold_seconds: hold, as_of: asOf }) {
  const age = totals.as_of === null ? 0 : (Date.parse(asOf) - Date.parse(totals.as_of)) / 1000;
  facts(byId("totals"), [
    ["SKUs", count(totals.skus)],
    ["live reservations", count(totals.live_reservations)],
    ["on_hand", count(totals.on_hand)],
    ["available", count(totals.available)],
    ["reserved", count(totals.reserved)],
    ["allocated", count(totals.allocated)],
    ["units counted", age >= LATE_SECONDS ? `${duration(Math.floor(age))} ago` : ""],
    ["events", count(totals.events)],
    ["default hold", duration(hold)],
  ]);
}

/** Rows are sorted by name, so that they stay in place; if not all SKUs are shown, those with reserved units are a group of their own. */
export function showStock({ skus, totals }, lookUp) {
  const rows = [...skus].sort((one, other) => (one.sku < other.sku ? -1 : 1));
  const isPart = rows.length < totals.skus;
  say(byId("stock-note"), isPart ? `${count(rows.length)} of ${count(totals.skus)} SKUs.` : rows.length ? "" : "There are no SKUs yet.");
  const busy = rows.filter(({ reserved }) => reserved > 0);
  const quiet = rows.filter(({ reserved }) => reserved === 0);
  const shown = isPart ? [...group("Most reserved", busy), ...group("Latest events, nothing reserved", quiet)] : rows;
  keep(byId("stock"), shown, keyOf, (row) => makeRow(row, lookUp), updateRow);
}

const group = (heading, rows) => (rows.length ? [{ heading }, ...rows] : []);

/** A SKU never ends with a space, so no heading has the key of a SKU. */
const keyOf = ({ sku, heading }) => sku ?? `${heading} `;

/** A bar whose whole is on_hand. The numbers stand beside it, so it says nothing by itself. */
function makeBar() {
  const parts = PARTS.map((part) => svgElement("rect", { class: part, y: 0, height: 1 }));
  const frame = { class: "bar", viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" };
  return svgElement("svg", frame, ...parts);
}

function updateBar(bar, sku) {
  let start = 0;
  PARTS.forEach((part, index) => {
    const width = sku.on_hand ? sku[part] / sku.on_hand : 0;
    bar.children[index].setAttribute("x", start);
    bar.children[index].setAttribute("width", width);
    start += width;
  });
}

function makeRow({ sku, heading }, lookUp) {
  if (heading) {
    const cell = element("th", { scope: "rowgroup", role: "rowheader", colspan: PARTS.length + 3 }, heading);
    return element("tr", { role: "row", class: "heading" }, cell);
  }
  const name = element("button", { type: "button", class: "plain", title: `Look up ${sku}` }, sku);
  name.addEventListener("click", () => lookUp(sku));
  const numbers = [...PARTS, "on_hand"].map((part) =>
    element("td", { class: "number", role: "cell", "data-part": part, "data-label": part }),
  );
  return element(
    "tr",
    { role: "row" },
    element("th", { scope: "row", role: "rowheader" }, name, element("span", { class: "paused" })),
    element("td", { role: "cell", class: "drawn" }, makeBar()),
    ...numbers,
  );
}

function updateRow(row, sku) {
  if (sku.heading) return;
  say(row.querySelector(".paused"), sku.paused ? " paused" : "");
  updateBar(row.querySelector(".bar"), sku);
  for (const cell of row.querySelectorAll("[data-part]")) say(cell, count(sku[cell.dataset.part]));
}
