// The console: asks for a token, then shows the overview, once a second.

import { showEvents } from "./events.js";
import { clearLookUp, goLookUp, noteNewest, prepareLookUp } from "./lookup.js";
import { byId, say } from "./page.js";
import { Poll } from "./poll.js";
import { prepareRates, showRates } from "./rates.js";
import { prepareSelling, showSelling } from "./selling.js";
import { forget, get, isSendable, Refused, remember, token } from "./service.js";
import { showStock, showTotals } from "./stock.js";
import { readings, showStrip } from "./strip.js";
import { clock, duration } from "./words.js";

const STALE_MS = 3000;

let freshAt = null;
let freshTime = null;
let trouble = "";

const poll = new Poll(() => get("v1/overview"), answered, failed);

function answered(overview) {
  if (byId("panel").hidden) showPanel();
  showStrip(readings(overview));
  showTotals(overview);
  showStock(overview, goLookUp);
  showRates(overview);
  showEvents(overview, goLookUp);
  showSelling(overview);
  noteNewest(overview);
  byId("panel").dataset.asOf = overview.as_of;
  // At the end: what could not be shown is not live.
  freshAt = performance.now();
  freshTime = overview.as_of;
  trouble = "";
  showAge();
}

function failed(error) {
  if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
    signOut(refusal(error));
  } else if (byId("panel").hidden) {
    say(byId("token-problem"), `${whyNot(error)}. Trying again …`);
  } else {
    trouble = whyNot(error);
    showAge();
  }
}

function whyNot(error) {
  if (error.code === "store_unavailable") return "The service can't read Redis (store_unavailable)";
  return error.message.replace(/\.$/, "");
}

function refusal(error) {
  if (error.status === 403) return "This token hasn't the scope ops, which the console needs.";
  return `${error.message} Enter another one.`;
}

function showPanel() {
  byId("sign-in").hidden = true;
  for (const id of ["panel", "actions", "freshness"]) byId(id).hidden = false;
  say(byId("token-problem"), "");
  byId("title").focus();
}

function signOut(words) {
  poll.stop();
  forget();
  freshAt = null;
  clearLookUp();
  byId("stop").close();
  for (const id of ["panel", "actions", "freshness", "away"]) byId(id).hidden = true;
  byId("sign-in").hidden = false;
  byId("token").value = "";
  document.title = "Stockade console";
  say(byId("token-problem"), words);
  byId("token").focus();
}

/** How old what is on the page is. It is announced when it becomes stale, and when it is live again, not in between. */
function showAge() {
  if (freshAt === null || document.hidden) return;
  const age = performance.now() - freshAt;
  const isStale = trouble !== "" || age >= STALE_MS;
  const since = `${clock(freshTime).slice(0, 8)} UTC`;
  if (isStale === byId("away").hidden) say(byId("announcement"), isStale ? `Stale since ${since}.` : "Live again.");
  byId("away").hidden = !isStale;
  byId("panel").classList.toggle("stale", isStale);
  say(byId("freshness"), isStale ? "not live" : `live, as of ${since}`);
  say(byId("away-words"), isStale ? `Stale since ${since}: ${trouble || "no newer answer yet"}.` : "");
  say(byId("away-age"), isStale ? `What you see is ${duration(Math.floor(age / 1000))} old.` : "");
}

function openWith(text) {
  if (!isSendable(text)) {
    say(byId("token-problem"), text ? "That is not a token." : "Enter a token.");
    byId("token").focus();
    return;
  }
  remember(text);
  say(byId("token-problem"), "");
  say(byId("announcement"), "Checking the token.");
  poll.start();
}

prepareRates();
prepareLookUp();
prepareSelling();
setInterval(showAge, 1000);
byId("forget").addEventListener("click", () => signOut("The token is forgotten."));
byId("try-now").addEventListener("click", () => poll.now());
byId("token-form").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  openWith(byId("token").value.trim());
});
if (token()) openWith(token());
else byId("token").focus();
