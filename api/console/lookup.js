// A SKU or a reservation looked up: its counters, and its story from the record, newest last.

import { storyLine } from "./events.js";
import { byId, facts, say } from "./page.js";
import { Away, get, Refused } from "./service.js";
import { count, counted, moment } from "./words.js";

const RESERVATION = /^[0-9A-Za-z]{22}$/;
const VISIBLE = "[\\p{L}\\p{M}\\p{N}\\p{P}\\p{S}]+";
const SKU = new RegExp(`^(?!\\.\\.?$)${VISIBLE}(?: ${VISIBLE})*$`, "u");
const MAX_SKU_LENGTH = 128;
const PAGE = 100;
const MOST_ON_PAGE = 1000;
const FIRST_REACH = 1000;

let query = "";
let next = null;
let turn = 0;
let newest = null;

export function prepareLookUp() {
  byId("look-up").addEventListener("submit", (submitted) => {
    submitted.preventDefault();
    lookUp(byId("name").value.trim().normalize("NFC"));
  });
  byId("next-page").addEventListener("click", () => during(showNextPage));
  byId("to-latest").addEventListener("click", () => during(showLatest));
}

/** Where the ledger ends, so that one can skip to its end. */
export function noteNewest({ events }) {
  newest = events[0] ?? newest;
}

/** From elsewhere on the page: fill in the name, look it up, and go there. */
export function goLookUp(name) {
  byId("name").value = name;
  byId("look-up-title").focus();
  lookUp(name);
}

export function clearLookUp() {
  clear("");
  byId("name").value = "";
}

function clear(words) {
  // What is under way for another name is shown no more.
  turn += 1;
  facts(byId("sku"), []);
  byId("story").replaceChildren();
  byId("story").removeAttribute("tabindex");
  byId("more").hidden = true;
  say(byId("found"), words);
}

async function lookUp(name) {
  if (!SKU.test(name) || [...name].length > MAX_SKU_LENGTH) {
    const unlike = "No SKU can be called that: 1 to 128 visible characters, with single spaces between them.";
    clear(name ? unlike : "Enter a SKU or a reservation id.");
    byId("name").focus();
    return;
  }
  clear("Looking …");
  await during(async (isCurrent) => {
    const isReservation = RESERVATION.test(name) && (await tellStory("reservation_id", name, isCurrent));
    if (isReservation || !isCurrent()) return;
    const known = await showSku(name, isCurrent);
    const told = isCurrent() && (await tellStory("sku", name, isCurrent));
    if (!isCurrent() || told) return;
    const nothing = `Nothing is known of ${name}, as a SKU or as a reservation.`;
    say(byId("found"), known ? `The record has no event of ${name}.` : nothing);
  });
}

/** Run a step of the look-up that is on the page, and say what went wrong in it. */
async function during(step) {
  turn += 1;
  const mine = turn;
  const isCurrent = () => mine === turn;
  try {
    await step(isCurrent);
  } catch (error) {
    if (!(error instanceof Refused || error instanceof Away)) throw error;
    if (isCurrent()) say(byId("found"), wentWrong(error));
  }
}

function wentWrong(error) {
  const silent = "The record can't be read now: Postgres or Redis gives no answer. Try again.";
  if (error.code === "store_unavailable") return silent;
  return `${error.message.replace(/\.?$/, ".")} Try again.`;
}

async function showSku(name, isCurrent) {
  let sku;
  try {
    sku = await get(`v1/skus/${encodeURIComponent(name)}`);
  } catch (error) {
    if (error.code === "not_found") return false;
    throw error;
  }
  if (isCurrent()) facts(byId("sku"), skuFacts(sku));
  return true;
}

function skuFacts(sku) {
  const optional = (value) => (value === null ? "" : String(value));
  return [
    ["SKU", sku.sku],
    ["name", optional(sku.name)],
    ["available", count(sku.available)],
    ["reserved", count(sku.reserved)],
    ["allocated", count(sku.allocated)],
    ["on_hand", count(sku.on_hand)],
    ["limit per customer", optional(sku.limit_per_customer)],
    ["sale starts", sku.sale_starts_at ? moment(sku.sale_starts_at) : ""],
    ["sale ends", sku.sale_ends_at ? moment(sku.sale_ends_at) : ""],
    ["paused", sku.paused ? "yes" : ""],
  ];
}

const audit = (after, limit) => get(`v1/audit?${query}&limit=${limit}${after ? `&after=${after}` : ""}`);

async function tellStory(by, name, isCurrent) {
  query = `${by}=${encodeURIComponent(name)}`;
  const page = await audit("", PAGE);
  if (!isCurrent() || !page.items.length) return false;
  append(page);
  return true;
}

async function showNextPage(isCurrent) {
  const page = await audit(next, PAGE);
  if (isCurrent()) append(page);
}

/** The record can only be read forwards: start so far before its end, in its present epoch, that something is found. */
async function showLatest(isCurrent) {
  let page = { items: [], next: null };
  for (let reach = FIRST_REACH; !page.items.length && reach < 10 * newest.seq; reach *= 10) {
    page = await audit(`${newest.epoch}-${Math.max(0, newest.seq - reach)}`, MOST_ON_PAGE);
  }
  let { items } = page;
  while (page.next && isCurrent()) {
    page = await audit(page.next, MOST_ON_PAGE);
    items = [...items, ...page.items];
  }
  if (!isCurrent()) return;
  if (!items.length) return showNextPage(isCurrent);
  byId("story").replaceChildren();
  append({ items: items.slice(-PAGE), next: null });
  say(byId("found"), `The latest ${count(byId("story").childElementCount)} events, newest last.`);
}

function append(page) {
  const story = byId("story");
  story.append(...page.items.map(storyLine));
  // It scrolls, and must do so by keyboard, too.
  story.tabIndex = 0;
  next = page.next;
  if (next === null && byId("more").contains(document.activeElement)) byId("found").focus();
  byId("more").hidden = next === null;
  const shown = story.childElementCount;
  const all = `${counted(shown, "event")}, newest last.`;
  say(byId("found"), next ? `The first ${count(shown)} events; there are later ones.` : all);
}
