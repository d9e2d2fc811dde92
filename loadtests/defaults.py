"""The scenarios, and what each uses if nothing is said."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Defaults:
    """`seconds`: how long it lasts, 0 until all `checkouts` were made. `checkouts`: 0 for no end but that of time.

    `rush`: whether there is a moment from which on it counts, so that means over the whole run say little.
    """

    users: int
    seconds: int
    checkouts: int = 0
    says: str = ""
    rush: bool = False


SCENARIOS = {
    "baskets": Defaults(32, 0, 6_000, "real baskets; popular products sell out"),
    "flash_crowd": Defaults(400, 40, 0, "a spike of buyers on one SKU, ten times as many as units", rush=True),
    "abandoned_carts": Defaults(48, 30, 0, "most holds run out; their units must be sold again at once"),
    "basket_overlap": Defaults(32, 30, 0, "baskets of many lines over few SKUs"),
    "payment_storm": Defaults(32, 30, 0, "webhooks late, doubled, and out of order"),
    "bots": Defaults(24, 40, 0, "in the second half one user hammers at a SKU with a limit", rush=True),
    "soak": Defaults(16, 600, 0, "real baskets without end; stock is topped up"),
}
