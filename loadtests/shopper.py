"""A buyer who looks, checks out, and by a seeded choice pays, abandons, or lets the hold run out."""

from __future__ import annotations

import random

from loadtests.buyer import Buyer
from loadtests.records import Checkout, Lines
from loadtests.replay import Run

PLANS = {"pays": 60, "abandons": 20, "lets it run out": 20}
"""What buyers do with a reservation, in percent."""

SHORT_HOLD_SECONDS = (2, 5)
"""Holds that are meant to run out are this long, so that a run sees the units come back and be sold again."""


class Shopper(Buyer):
    """One who is refused drops the lines that can't be had, and tries once more with the rest."""

    abstract = True

    def buy(self, run: Run, number: int, user: str, lines: Lines) -> None:
        """Look, check out, and pay, abandon or forget it as the seed decides for the number."""
        choice = random.Random(f"{run.seed}:{number}")
        self.look(list(lines))
        plan = choice.choices(list(PLANS), list(PLANS.values()))[0]
        checkout = Checkout(plan=plan, user=user, at_ms=int(run.clock.now_ms()))
        run.records.checkouts.append(checkout)
        hold_seconds = choice.randint(*SHORT_HOLD_SECONDS) if plan == "lets it run out" else 900
        for attempt in ("a", "b"):
            refusal = self.reserve(run, checkout, lines, hold_seconds, run.key(number, attempt))
            lines = {sku: units for sku, units, verdict, _ in refusal.lines if verdict == "ok"} if refusal else {}
            if not lines:
                break
        if checkout.reservation_id and plan == "pays":
            self.pay(run, checkout, run.key(number))
        if checkout.reservation_id and plan == "abandons" and (state := self.abandon(run, checkout)) != "released":
            run.records.problems.append(f"an abandoned reservation is {state or 'in an unknown state'}")
