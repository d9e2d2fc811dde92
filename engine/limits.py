"""The sizes of things, as the contract has them."""

from __future__ import annotations

MAX_ON_HAND = 1_000_000_000
MAX_LINES = 200
MAX_QUANTITY = 1_000_000
MAX_IN_BATCH = 500
MAX_HOLD_SECONDS = 900
"""No reservation lives longer after its checkout began; the scripts enforce it as well."""
