"""Flash crowd: a spike of buyers on one SKU, ten times as many as there are units. Each wants one, once.

Whoever finds it sold out asks a few times more; those calls have names of their own, "(sold out)". A few buyers come
before the spike. USERS and TIME are the crowd's size, and the longest that it may take.

    locust -f loadtests/scenarios/flash_crowd.py --headless -u 400 -t 40 -H http://127.0.0.1:8000
"""

from __future__ import annotations

import random

from locust import LoadTestShape, tag

from loadtests.buyer import Buyer, journey
from loadtests.defaults import SCENARIOS
from loadtests.figures import SOLD_OUT
from loadtests.ledger import Fold
from loadtests.records import Checkout
from loadtests.replay import Product, Run, Scenario
from loadtests.rush import next_second, sold_out_after_s
from loadtests.session import now, play

NAME = "flash_crowd"
SKU = "sneaker"
BUYERS_FOR_A_UNIT = 10
EARLY_SHARE, EARLY_SECONDS = 0.05, 3.0
SPIKE_PER_SECOND = 100.0
"""The most that locust can start without stumbling."""

ASKS_AGAIN = 4
AGAIN_SECONDS = (0.2, 1.5)


def stock(run: Run) -> dict[str, Product]:
    return {SKU: {"on_hand": max(1, run.users // BUYERS_FOR_A_UNIT), "limit_per_customer": 1}}


def figures(run: Run, ledger: Fold) -> dict[str, float | None]:
    return {
        "sold_out_after_s": sold_out_after_s(ledger, run.prefix + SKU, run.rush_ms),
        "unsold": float(sum(run.loaded.values()) - sum(ledger.sold.values())),
    }


play(Scenario(NAME, stock, figures, rush=lambda run: run.rush_ms))


class Crowd(LoadTestShape):
    """A few, then all of them at once, until the last one has gone or time is up."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        run = now.run
        if run is None or run.elapsed < EARLY_SECONDS:
            early = max(1, int(self.users * EARLY_SHARE))
            return early, early
        if run.elapsed > run.seconds or run.left >= run.users:
            return None
        if run.rush_ms is None:
            run.rush_ms = next_second(run.clock.now_ms())
            run.over.wait((run.rush_ms - run.clock.now_ms()) / 1000)
        return run.users, SPIKE_PER_SECOND

    @property
    def users(self) -> int:
        """As many as the run will have, which doesn't stand before the first tick."""
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        return (options and options.num_users) or SCENARIOS[NAME].users


class Fan(Buyer):
    """Wants one, and can't believe that it is sold out."""

    @tag("look", "reserve", "pay")
    @journey
    def queue(self, run: Run, number: int) -> None:
        choice = random.Random(f"{run.seed}:{number}")
        sku, user = run.prefix + SKU, run.key(number, "-fan")
        self.look([sku])
        checkout = Checkout(plan="pays", user=user, at_ms=int(run.clock.now_ms()))
        run.records.checkouts.append(checkout)
        self.reserve(run, checkout, {sku: 1}, 900, run.key(number))
        for again in range(ASKS_AGAIN):
            if checkout.reservation_id or checkout.unknown or run.closing:
                break
            run.over.wait(choice.uniform(*AGAIN_SECONDS))
            self.look([sku], "GET /v1/availability (sold out)")
            self.reserve(run, checkout, {sku: 1}, 900, run.key(number, f"-{again}"), SOLD_OUT)
        if checkout.reservation_id:
            self.pay(run, checkout, run.key(number))
        run.leave()
        run.over.wait()
