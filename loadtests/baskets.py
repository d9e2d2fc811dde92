"""The real baskets that the load tests replay, without their dirt. Source: loadtests/data/README.md."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent / "data" / "baskets-2017-12-23.csv"

MAX_BELIEVABLE = 1_000
"""Units of one product that a household carries home. Lines above it are dirt (fuel and coupons, booked as units)."""


@dataclass(frozen=True)
class Basket:
    """`lines`: product and units."""

    household: str
    lines: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Baskets:
    """`skipped` counts the lines left out, by reason."""

    baskets: tuple[Basket, ...]
    skipped: dict[str, int]


def read(path: Path = FILE) -> Baskets:
    lines: dict[str, list[tuple[str, int]]] = {}
    households: dict[str, str] = {}
    skipped: Counter[str] = Counter()
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if reason := _dirt(row["quantity"]):
                skipped[reason] += 1
                continue
            households[row["basket_id"]] = row["household_id"]
            lines.setdefault(row["basket_id"], []).append((row["product_id"], int(row["quantity"])))
    baskets = tuple(Basket(households[basket_id], tuple(found)) for basket_id, found in lines.items())
    return Baskets(baskets, dict(skipped))


def _dirt(quantity: str) -> str:
    if not quantity.isdigit():
        return "quantity is no whole number"
    if int(quantity) == 0:
        return "quantity is 0"
    return f"quantity is above {MAX_BELIEVABLE}" if int(quantity) > MAX_BELIEVABLE else ""
