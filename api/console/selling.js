// The global stop: a reason, then a question, then the call.

import { byId, say } from "./page.js";
import { Away, put, Refused } from "./service.js";

let paused = false;
let asked = null;

export function showSelling({ selling }) {
  paused = selling.paused;
  say(byId("selling"), paused ? "Resume selling…" : "Pause selling…");
}

export function prepareSelling() {
  const dialog = byId("stop");
  byId("selling").addEventListener("click", open);
  byId("stop-ask").addEventListener("submit", confirm);
  byId("stop-confirm").addEventListener("submit", act);
  for (const button of dialog.querySelectorAll(".cancel")) button.addEventListener("click", () => dialog.close());
}

function open() {
  // Decided now: what another operator does meanwhile must not turn this call around.
  asked = { paused: !paused, word: paused ? "Resume selling" : "Pause selling" };
  say(byId("stop-title"), asked.word);
  say(byId("stop-do"), asked.word);
  say(byId("stop-means"), asked.paused
    ? "Nothing can be reserved until somebody resumes selling. Holds can still be paid for."
    : "Reservations are taken again, at once.");
  byId("reason").value = "";
  complain("");
  say(byId("stop-problem"), "");
  byId("stop-ask").hidden = false;
  byId("stop-confirm").hidden = true;
  byId("stop").showModal();
  byId("reason").focus();
}

function complain(words) {
  say(byId("reason-problem"), words);
  if (words) byId("reason").setAttribute("aria-invalid", "true");
  else byId("reason").removeAttribute("aria-invalid");
}

function confirm(submitted) {
  submitted.preventDefault();
  asked.reason = byId("reason").value.trim();
  complain(asked.reason ? "" : "A reason is needed: it goes into the record.");
  if (!asked.reason) {
    byId("reason").focus();
    return;
  }
  byId("stop-ask").hidden = true;
  byId("stop-confirm").hidden = false;
  say(byId("stop-question"), `${asked.word} of every SKU, because: ${asked.reason}`);
  // The question is read first; the button is one Tab further.
  byId("stop-question").focus();
}

async function act(submitted) {
  submitted.preventDefault();
  byId("stop-do").disabled = true;
  say(byId("stop-problem"), "");
  try {
    const answer = await put("v1/selling", { paused: asked.paused, reason: asked.reason });
    showSelling({ selling: answer });
    byId("stop").close();
    say(byId("announcement"), `${answer.paused ? "Selling is paused" : "Selling goes on"}: ${answer.reason}`);
  } catch (error) {
    if (!(error instanceof Refused || error instanceof Away)) throw error;
    const unclear = error instanceof Away ? " It may have been done all the same: see the state, or try again." : "";
    say(byId("stop-problem"), `${error.message.replace(/\.?$/, ".")}${unclear}`);
  } finally {
    byId("stop-do").disabled = false;
  }
}
