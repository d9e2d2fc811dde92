// Totals, and the stock of each SKU as a bar with its numbers.

import { byId, element, facts, keep, say, svgElement } from "./page.js";
import { count, duration } from "./words.js";

const PARTS = ["available", "reserved", "allocated"];

export function showTotals({ totals, default_hold_seconds: hold }) {
  facts(byId("totals"), [
    ["SKUs", count(totals.skus)],
    ["live reservations", count(totals.live_reservations)],
    ["on_hand", count(totals.on_hand)],
    ["available", count(totals.available)],
    ["reserved", count(totals.reserved)],
    ["allocated", count(totals.allocated)],
    ["events", count(totals.events)],
    ["default hold", duration(hold)],
  ]);
}

export function showStock({ skus, totals }, lookUp) {
  // In the order of their names, so that rows stay where they are.
  const rows = [...skus].sort((one, other) => (one.sku < other.sku ? -1 : 1));
  const some = `Of ${count(totals.skus)} SKUs those with the most reserved, and the latest active.`;
  say(byId("stock-note"), rows.length < totals.skus ? some : rows.length ? "" : "There are no SKUs yet.");
  keep(byId("stock"), rows, ({ sku }) => sku, (row) => makeRow(row, lookUp), updateRow);
}

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

function makeRow({ sku }, lookUp) {
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
  say(row.querySelector(".paused"), sku.paused ? " paused" : "");
  updateBar(row.querySelector(".bar"), sku);
  for (const cell of row.querySelectorAll("[data-part]")) say(cell, count(sku[cell.dataset.part]));
}
