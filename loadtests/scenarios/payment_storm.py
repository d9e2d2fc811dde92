"""Payment storm: the provider's webhooks come late, doubled, out of order, and at the same time as the shop's commit.

Every payment must end as one order or one refund, and be told the same however often it is told.

    locust -f loadtests/scenarios/payment_storm.py --headless -u 32 -t 30 -H http://127.0.0.1:8000
"""

from __future__ import annotations

import os
import random
import time

import gevent
from locust import tag

from loadtests.buyer import Buyer, journey
from loadtests.records import Checkout, Payment
from loadtests.replay import Product, Run, Scenario
from loadtests.session import play

SKUS, UNITS_PER_SECOND = 6, 8
"""So many of each for every second of the run that they become scarce towards its end."""

HOLD_SECONDS = (1, 2)
LATE_SECONDS = 0.3
SUCCEEDED, FAILED, CANCELED = "payment.succeeded", "payment.failed", "payment.canceled"

STORMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "doubled": ((SUCCEEDED, SUCCEEDED, SUCCEEDED),),
    "with the commit": ((SUCCEEDED, "commit"),),
    "failed after succeeded": ((SUCCEEDED,), (FAILED,), (SUCCEEDED,)),
    "canceled before succeeded": ((CANCELED,), (SUCCEEDED,), (CANCELED,)),
    "all at once": ((SUCCEEDED, FAILED, CANCELED, "commit"),),
    "late": (("late",), (SUCCEEDED, SUCCEEDED), ("commit",)),
    "two payments": ((SUCCEEDED, "second"), (SUCCEEDED, "second")),
    "late, two payments": (("late",), (SUCCEEDED, "second", SUCCEEDED)),
}
"""Groups of events: those of one group are sent at once, the groups one after the other."""


def stock(run: Run) -> dict[str, Product]:
    if not os.environ.get("STOCKADE_WEBHOOK_SECRET"):
        raise ValueError("set STOCKADE_WEBHOOK_SECRET to the service's, or STOCKADE_DATA_DIR to its data directory")
    return {f"sku-{number}": {"on_hand": max(1, round(UNITS_PER_SECOND * run.seconds))} for number in range(SKUS)}


play(Scenario("payment_storm", stock))


class Payer(Buyer):
    """Reserves, and then the storm breaks."""

    concurrency = 6

    @tag("reserve", "pay", "webhook")
    @journey
    def weather(self, run: Run, number: int) -> None:
        choice = random.Random(f"{run.seed}:{number}")
        plan = choice.choice(list(STORMS))
        lines = {f"{run.prefix}sku-{choice.randrange(SKUS)}": choice.randint(1, 2)}
        checkout = Checkout(plan=plan, user=run.key(number, "-buyer"), at_ms=int(run.clock.now_ms()))
        run.records.checkouts.append(checkout)
        self.reserve(run, checkout, lines, choice.randint(*HOLD_SECONDS), run.key(number))
        if not checkout.reservation_id:
            return
        payments = [Payment(checkout.reservation_id, run.key(number, f"-p{each}"), unknown=True) for each in (1, 2)]
        told = payments if "two payments" in plan else payments[:1]
        run.records.payments += told
        for group in STORMS[plan]:
            gevent.joinall([gevent.spawn(self.tell, run, checkout, payments, event, number) for event in group])
        for payment in told:
            payment.unknown = not payment.outcomes

    def tell(self, run: Run, checkout: Checkout, payments: list[Payment], event: str, number: int) -> None:
        """Let one thing of a storm happen."""
        first, second = payments
        if event == "late":
            time.sleep(max(0.0, (checkout.deadline_ms - run.clock.now_ms()) / 1000 + LATE_SECONDS))
        elif event == "commit":
            self.commit(run, checkout, first)
        elif event == "second":
            self.webhook(run, checkout, second, SUCCEEDED, run.key(number, "-second"))
        else:
            self.webhook(run, checkout, first, event, run.key(number, f"-{event}"))
