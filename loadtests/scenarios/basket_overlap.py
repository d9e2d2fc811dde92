"""Basket overlap: many baskets of many lines over few SKUs, in every order of lines. All or nothing, without a jam.

locust -f loadtests/scenarios/basket_overlap.py --headless -u 32 -t 30 -H http://127.0.0.1:8000
"""

from __future__ import annotations

import random

from locust import tag

from loadtests.buyer import journey
from loadtests.replay import Product, Run, Scenario
from loadtests.session import play
from loadtests.shopper import Shopper

SKUS, UNITS = 12, 1_500
LINES = (4, 9)
MAX_UNITS = 3


def stock(run: Run) -> dict[str, Product]:
    return {f"sku-{number}": {"on_hand": UNITS} for number in range(SKUS)}


play(Scenario("basket_overlap", stock))


class Hoarder(Shopper):
    """Wants a good part of everything there is."""

    @tag("look", "reserve", "pay", "abandon")
    @journey
    def shop(self, run: Run, number: int) -> None:
        choice = random.Random(f"{run.seed}:{number}:lines")
        skus = choice.sample(range(SKUS), choice.randint(*LINES))
        lines = {f"{run.prefix}sku-{sku}": choice.randint(1, MAX_UNITS) for sku in skus}
        self.buy(run, number, run.key(number, "-buyer"), lines)
