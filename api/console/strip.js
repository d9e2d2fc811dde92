// The state of each part, judged: in order, look at it, or wrong.

import { byId, element, keep, say } from "./page.js";
import { bytes, counted, duration } from "./words.js";

export const FINE = "in order";
export const LOOK = "look at it";
export const WRONG = "wrong";

const NAMES = { [FINE]: "fine", [LOOK]: "look", [WRONG]: "wrong" };

/** The values from which a reading is "look at it" and "wrong". */
export const LIMITS = {
  memoryShare: [0.7, 0.9],
  expirySeconds: [0.5, 5],
  ledgerSeconds: [1, 10],
  ledgerEvents: [20000, 500000],
  snapshotSeconds: [900, 3600],
};

/** For what the keeper does at a configured interval: a lag below this many intervals is in order. */
export const INTERVALS = [3, 12];

const judged = (number, [look, wrong]) => (number >= wrong ? WRONG : number >= look ? LOOK : FINE);
const judgedLag = (seconds, limits, interval) =>
  judged(seconds, limits.map((limit, index) => Math.max(limit, INTERVALS[index] * interval)));
const ORDER = [FINE, LOOK, WRONG];
const worse = (one, other) => ORDER[Math.max(ORDER.indexOf(one), ORDER.indexOf(other))];

/** One reading for each part: name, value, level, and what it means if the level isn't "in order". */
export function readings(overview) {
  const { gate, keeper, redis, postgres, record, checks, lag, selling, intervals } = overview;
  return [
    gateReading(gate),
    keeper === null
      ? reading("Keeper", "none leads", WRONG, "Holds end only when their stock is asked for.")
      : reading("Keeper", keeper, FINE),
    selling.paused ? reading("Selling", "paused", LOOK, selling.reason) : reading("Selling", "going on", FINE),
    postgres === "ok"
      ? reading("Postgres", "answers", FINE)
      : reading("Postgres", postgres, WRONG, "Payments are refused until it answers."),
    checks.redis === "disk full"
      ? reading("Redis disk", "full", WRONG, "Redis refuses what buyers do until there is room.")
      : reading("Redis disk", "takes writes", FINE),
    memoryReading(redis),
    expiryReading(lag.expiry_seconds),
    ledgerReading(lag, intervals),
    recordReading(record),
    snapshotReading(lag, intervals),
    warned("Clock", checks.clock, "Holds end early or late."),
    warned("Redis AOF", checks.aof, "A restart of Redis would lose the latest holds and all carts."),
    warned("Log", checks.log, "What the service says is lost."),
  ];
}

const reading = (name, value, level, why = "") => ({ name, value, level, why: level === FINE ? "" : why });

const warned = (name, said, why) => reading(name, said, said === "ok" ? FINE : LOOK, why);

function gateReading(gate) {
  if (gate === "open") return reading("Gate", "open", FINE);
  const [word, ...why] = gate.split(": ");
  return reading("Gate", word, WRONG, why.join(": ") || "Nothing is sold.");
}

function recordReading(record) {
  if (record === "ok") return reading("Record", "whole", FINE);
  const [word, ...why] = record.split(": ");
  return reading("Record", word, word === "damaged" ? WRONG : LOOK, why.join(": ") || "The keeper checks it once a second.");
}

function memoryReading({ used_memory_bytes: used, max_memory_bytes: most }) {
  if (most === 0) return reading("Redis memory", `${bytes(used)}, no limit`, FINE);
  const level = judged(used / most, LIMITS.memoryShare);
  const share = `${Math.floor((100 * used) / most)} % is used.`;
  return reading("Redis memory", `${bytes(used)} of ${bytes(most)}`, level, share);
}

function expiryReading(seconds) {
  return reading("Expiry lag", duration(seconds), judged(seconds, LIMITS.expirySeconds), "Holds end too late.");
}

function ledgerReading({ ledger_events: events, ledger_seconds: seconds }, { ledger_seconds: interval }) {
  if (events === null || seconds === null) return reading("Ledger lag", "unknown", LOOK, "Postgres can't say.");
  const level = worse(judgedLag(seconds, LIMITS.ledgerSeconds, interval), judged(events, LIMITS.ledgerEvents));
  return reading("Ledger lag", `${counted(events, "event")}, ${duration(seconds)}`, level, "Postgres is behind Redis.");
}

/** Judged by the events that wait for a snapshot, not by its age: a quiet service needs no new snapshot. */
function snapshotReading({ snapshot_age_seconds: age, snapshot_lag_seconds: lag }, { snapshot_seconds: interval }) {
  if (lag === null) return reading("Snapshot", "unknown", LOOK, "Postgres can't say.");
  const value = age === null ? "none yet" : `${duration(age)} old`;
  const level = judgedLag(lag, LIMITS.snapshotSeconds, interval);
  return reading("Snapshot", value, level, `Events have waited for one for ${duration(lag)}.`);
}

const levels = new Map();

export function showStrip(found) {
  keep(byId("strip"), found, ({ name }) => name, makeTile, updateTile);
  const changed = found.filter(({ name, level }) => levels.get(name) !== level);
  // At first only what needs a look is said.
  const news = levels.size ? changed : changed.filter(({ level }) => level !== FINE);
  for (const { name, level } of found) levels.set(name, level);
  if (news.length) say(byId("announcement"), news.map(spoken).join(" "));
  document.title = `${worst(found)}Stockade console`;
}

const spoken = ({ name, value, level, why }) => `${name}: ${level}, ${value}. ${why}`.trim();

function worst(found) {
  const names = (wanted) => found.filter(({ level }) => level === wanted).map(({ name }) => name).join(", ");
  if (names(WRONG)) return `Wrong: ${names(WRONG)} – `;
  return names(LOOK) ? `Look at: ${names(LOOK)} – ` : "";
}

function makeTile({ name }) {
  return element(
    "li",
    {},
    element("span", { class: "label" }, name),
    element("span", { class: "value" }),
    element("span", { class: "level" }),
    element("span", { class: "why" }),
  );
}

function updateTile(tile, { value, level, why }) {
  tile.className = NAMES[level];
  const [, valueNode, levelNode, whyNode] = tile.children;
  say(valueNode, value);
  say(levelNode, level);
  say(whyNode, why);
}
