"""Abandoned carts: most holds run out after a second or two; their units must come back and be sold again.

There are far more buyers than units, so nearly everything is held all the time, and whoever is refused comes back at
the moment that the refusal named. Not one may be refused while units are free, or while holds are in the way whose time
has run out.

    locust -f loadtests/scenarios/abandoned_carts.py --headless -u 48 -t 30 -H http://127.0.0.1:8000
"""

from __future__ import annotations

import random
import time

from locust import tag

from loadtests.buyer import Buyer, journey
from loadtests.records import Checkout, Refusal
from loadtests.replay import Product, Run, Scenario
from loadtests.session import play

SKUS, UNITS = 4, 12
PLANS = {"lets it run out": 88, "abandons": 10, "pays": 2}
MAX_UNITS, MAX_LINES = 3, 2
HOLD_SECONDS = (1, 2)
TRIES = 6
LONGEST_WAIT_SECONDS = 2.5


def stock(run: Run) -> dict[str, Product]:
    return {f"sku-{number}": {"on_hand": UNITS} for number in range(SKUS)}


play(Scenario("abandoned_carts", stock))


class Waverer(Buyer):
    """Takes a few units and mostly forgets them."""

    @tag("look", "reserve", "pay", "abandon")
    @journey
    def waver(self, run: Run, number: int) -> None:
        choice = random.Random(f"{run.seed}:{number}")
        skus = choice.sample(range(SKUS), choice.randint(1, MAX_LINES))
        lines = {f"{run.prefix}sku-{sku}": choice.randint(1, MAX_UNITS) for sku in skus}
        plan = choice.choices(list(PLANS), list(PLANS.values()))[0]
        checkout = Checkout(plan=plan, user=run.key(number, "-buyer"), at_ms=int(run.clock.now_ms()))
        run.records.checkouts.append(checkout)
        for attempt in range(TRIES):
            hold_seconds = choice.randint(*HOLD_SECONDS)
            refusal = self.reserve(run, checkout, lines, hold_seconds, run.key(number, f"-{attempt}"))
            if refusal is None or run.closing:
                break
            wait_until_release(run, refusal)
            self.look(list(lines))
        if not checkout.reservation_id:
            return
        if plan == "abandons":
            self.abandon(run, checkout)
        elif plan == "pays":
            self.pay(run, checkout, run.key(number))


def wait_until_release(run: Run, refusal: Refusal) -> None:
    """Be back at the very moment at which the last of the refused lines may be free again."""
    release_ms = max(next_release_ms for _, _, _, next_release_ms in refusal.lines)
    time.sleep(min(max((release_ms - run.clock.now_ms()) / 1000, 0.01), LONGEST_WAIT_SECONDS))
