"""Real baskets: each is a buyer who looks, checks out, and by a seeded choice pays, abandons, or lets the hold run out.

Stock is loaded so that popular products sell out. A buyer who is refused drops the lines that can't be had and tries
once more with the rest. The run ends by itself once all have come.

    locust -f loadtests/scenarios/baskets.py --headless -u 32 -H http://127.0.0.1:8000
"""

from __future__ import annotations

import math
from collections import Counter
from functools import cache

from locust import tag

from loadtests import baskets
from loadtests.buyer import journey
from loadtests.replay import Product, Run, Scenario
from loadtests.session import play
from loadtests.shopper import Shopper

SCARCE_SHARE, SCARCE_PRODUCTS, PLENTY = 0.5, 400, 2.0
"""The most wanted products are stocked for this share of the demand, all others for `PLENTY` times of it."""


@cache
def read() -> baskets.Baskets:
    return baskets.read()


def basket(number: int) -> baskets.Basket:
    return read().baskets[number % len(read().baskets)]


def stock(run: Run) -> dict[str, Product]:
    demand: Counter[str] = Counter()
    for number in range(run.checkouts):
        demand.update(dict(basket(number).lines))
    scarce = {product for product, _ in demand.most_common(SCARCE_PRODUCTS)}
    return {
        product: {"on_hand": math.ceil(units * (SCARCE_SHARE if product in scarce else PLENTY))}
        for product, units in demand.items()
    }


play(Scenario("baskets", stock, skipped=lambda: read().skipped))


class Household(Shopper):
    """Takes the next basket, and is whoever bought it."""

    @tag("look", "reserve", "pay", "abandon")
    @journey
    def shop(self, run: Run, number: int) -> None:
        bought = basket(number)
        self.buy(
            run, number, f"household-{bought.household}-{number}", {run.prefix + sku: n for sku, n in bought.lines}
        )
