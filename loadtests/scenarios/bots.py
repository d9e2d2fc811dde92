"""Bots: in the second half of the run one user hammers at a SKU that has a limit for each customer.

The limit must hold at every moment of the ledger, and honest buyers must fare as well as in the first half.

    locust -f loadtests/scenarios/bots.py --headless -u 24 -t 40 -H http://127.0.0.1:8000
"""

from __future__ import annotations

import random
import time
from itertools import count

import gevent
from locust import tag

from loadtests.buyer import RESERVATION, Buyer, journey
from loadtests.figures import BOT, RESERVE, with_and_without_bot
from loadtests.ledger import Fold
from loadtests.records import BOT_PLAN, Checkout
from loadtests.replay import Product, Run, Scenario
from loadtests.rush import next_second
from loadtests.session import current, play

HOT, LIMIT, SKUS = "hot", 2, 20
HOT_UNITS, UNITS = 8, 1
"""For each user and second: more than they can buy."""

ARMS = 8
"""Calls that the bot makes at the same time."""

THINK_SECONDS = (0.05, 0.3)


def stock(run: Run) -> dict[str, Product]:
    user_seconds = max(1, round(run.users * run.seconds))
    shelf: dict[str, Product] = {f"sku-{number}": {"on_hand": UNITS * user_seconds} for number in range(SKUS)}
    return shelf | {HOT: {"on_hand": HOT_UNITS * user_seconds, "limit_per_customer": LIMIT}}


def figures(run: Run, ledger: Fold) -> dict[str, float | None]:
    return with_and_without_bot(run.records, bot_comes_ms(run))


def bot_comes_ms(run: Run) -> float:
    return next_second(run.started_ms + run.seconds * 500)


def rush(run: Run) -> float | None:
    comes_ms = bot_comes_ms(run)
    return comes_ms if run.closed_ms > comes_ms else None


play(Scenario("bots", stock, figures, rush=rush))


class Honest(Buyer):
    """Buys one of the hot SKU, or something else, and thinks in between."""

    weight = 1

    @tag("look", "reserve", "pay", "honest")
    @journey
    def shop(self, run: Run, number: int) -> None:
        choice = random.Random(f"{run.seed}:{number}")
        sku = run.prefix + choice.choice([HOT, f"sku-{choice.randrange(SKUS)}"])
        self.look([sku])
        checkout = Checkout(plan="pays", user=run.key(number, "-honest"), at_ms=int(run.clock.now_ms()))
        run.records.checkouts.append(checkout)
        self.reserve(run, checkout, {sku: choice.randint(1, LIMIT)}, 900, run.key(number))
        if checkout.reservation_id:
            self.pay(run, checkout, run.key(number))
        time.sleep(choice.uniform(*THINK_SECONDS))


class Bot(Buyer):
    """One customer with many arms and no patience."""

    fixed_count = 1
    concurrency = ARMS

    @tag("bot")
    @journey
    def hammer(self, run: Run, number: int) -> None:
        run.over.wait(max(0.0, (bot_comes_ms(run) - run.clock.now_ms()) / 1000))
        calls = count()
        gevent.joinall([gevent.spawn(self.arm, run, number, arm, calls) for arm in range(ARMS)])

    def arm(self, run: Run, number: int, arm: int, calls: count[int]) -> None:
        choice = random.Random(f"{run.seed}:{number}:{arm}")
        sku, user = run.prefix + HOT, f"{run.prefix}bot"
        while not run.closing:
            checkout = Checkout(plan=BOT_PLAN, user=user, at_ms=int(run.clock.now_ms()))
            run.records.checkouts.append(checkout)
            key = run.key(number, f"-bot-{next(calls)}")
            self.reserve(run, checkout, {sku: choice.randint(1, LIMIT)}, 900, key, f"{RESERVE} {BOT}")
            if checkout.reservation_id:
                self.give_back(checkout)

    def give_back(self, checkout: Checkout) -> None:
        run = current()
        token, path = run.service.token(checkout.user, "customer"), f"/v1/reservations/{checkout.reservation_id}"
        self.call("DELETE", path, f"DELETE {RESERVATION} {BOT}", token, None, "", (200,))
