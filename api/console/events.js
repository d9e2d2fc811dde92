// Events of the ledger: the latest as a table, and one event as a line of a story.

import { byId, element, keep, say } from "./page.js";
import { clock, count, moment } from "./words.js";

const MOST_LINES_SHOWN = 3;

const keyOf = ({ epoch, seq }) => `${epoch}-${seq}`;

/** What is pointed at, or has the focus, is held: nobody hits a row that moves every second. */
const isHeld = (table) =>
  table.matches(":focus-within") || (matchMedia("(hover: hover)").matches && table.matches(":hover"));

export function showEvents({ events, as_of: asOf }, lookUp) {
  const rows = byId("events");
  if (rows.childElementCount && isHeld(rows)) {
    const note = byId("events-note");
    if (!note.textContent.startsWith("Held")) say(note, `Held since ${clock(asOf)}, as long as you are in the table.`);
    return;
  }
  say(byId("events-note"), events.length ? "" : "Nothing has happened yet.");
  keep(rows, events, keyOf, (event) => makeRow(event, lookUp));
}

function makeRow(event, lookUp) {
  const cell = (label, ...content) => element("td", { role: "cell", "data-label": label }, ...content);
  const name = (text) => {
    const button = element("button", { type: "button", class: "plain", title: `Look up ${text}` }, text);
    button.addEventListener("click", () => lookUp(text));
    return button;
  };
  const shown = event.lines.slice(0, MOST_LINES_SHOWN).flatMap(({ sku, quantity }, index) => [
    `${index ? ", " : ""}${count(quantity)} × `, name(sku),
  ]);
  const left = event.lines.length - MOST_LINES_SHOWN;
  return element(
    "tr",
    { role: "row" },
    cell("at", element("time", { datetime: event.at }, clock(event.at))),
    cell("op", element("strong", {}, event.op)),
    cell("lines", ...shown, left > 0 ? ` and ${count(left)} more` : ""),
    cell("user", event.user),
    cell("reservation", ...(event.reservation_id ? [name(event.reservation_id)] : [])),
    cell("by", event.actor),
    cell("why", because(event)),
  );
}

const because = ({ payment_id: payment, reason }) =>
  [payment && `payment ${payment}`, reason].filter(Boolean).join(", ");

/** One event as a line that a person reads: everything the record has. */
export function storyLine(event) {
  const lines = event.lines.map(({ sku, quantity }) => `${count(quantity)} × ${sku}`).join(", ");
  const user = event.user && event.user !== event.actor && `for ${event.user}`;
  const words = [lines, user, `by ${event.actor}`, because(event), event.reservation_id];
  const said = element("p", {}, element("strong", {}, event.op), " ", words.filter(Boolean).join(" · "));
  return element(
    "li",
    {},
    element("time", { datetime: event.at }, moment(event.at)),
    element("span", { class: "number", title: "epoch-seq in the ledger" }, keyOf(event)),
    said,
  );
}
