"""Soak: real baskets without end. What sells is topped up, so that the shop never runs dry; latency must not drift.

locust -f loadtests/scenarios/soak.py --headless -u 16 -t 10m -H http://127.0.0.1:8000
"""

from __future__ import annotations

from loadtests.figures import drift
from loadtests.ledger import Fold
from loadtests.replay import Product, Run, Scenario
from loadtests.scenarios import baskets
from loadtests.scenarios.baskets import Household
from loadtests.session import play

__all__ = ["Household"]

SHELF = 8
"""Baskets of each kind that the stock lasts for before it is topped up."""

TOP_UP_SECONDS = 4.0


def stock(run: Run) -> dict[str, Product]:
    shelf: dict[str, Product] = {}
    for number in range(run.checkouts or len(baskets.read().baskets)):
        for product, units in baskets.basket(number).lines:
            shelf.setdefault(product, {"on_hand": 0})["on_hand"] += SHELF * units
    return shelf


def top_up(run: Run) -> None:
    """Put back on the shelf whatever less than half is left of."""
    times = 0
    while not run.closing:
        times += 1
        for sku, counters in run.service.counters(run.prefix).items():
            full = run.products[sku]["on_hand"]
            if counters["available"] < full / 2 and not run.closing:
                run.service.restock(sku, full, f"{run.prefix}top-up-{times}-{sku}")
                run.loaded[sku] += full
        run.over.wait(TOP_UP_SECONDS)


def figures(run: Run, ledger: Fold) -> dict[str, float | None]:
    return drift(run.records, run.started_ms, run.closed_ms)


play(Scenario("soak", stock, figures, behind=top_up, skipped=lambda: baskets.read().skipped))
