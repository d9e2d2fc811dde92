"""What buyers remember of their own checkouts: the side of the story that the service can't tell."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

Lines = dict[str, int]
"""SKU and units."""


@dataclass
class Checkout:
    """One buyer's checkout. `unknown`: an answer never came, so the effect may or may not be there."""

    reservation_id: str = ""
    lines: Lines = field(default_factory=dict)
    plan: str = ""
    paid: bool = False
    unknown: bool = False


@dataclass
class Records:
    """All checkouts of one run. `problems` are answers that should not have been possible."""

    checkouts: list[Checkout] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)
    refused_baskets: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def reserved(self) -> list[Checkout]:
        return [checkout for checkout in self.checkouts if checkout.reservation_id]

    @property
    def unknown(self) -> int:
        return sum(checkout.unknown for checkout in self.checkouts)

    def sold(self) -> Counter[str]:
        """Units that buyers were told they bought, by SKU."""
        units: Counter[str] = Counter()
        for checkout in self.checkouts:
            if checkout.paid:
                units.update(checkout.lines)
        return units
