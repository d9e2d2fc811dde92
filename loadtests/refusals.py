"""Refusals that should not have been: enough units were free, or their holds' time had run out, all through the call.

The moment at which a refusal was decided lies somewhere between its call and its answer, so it is called false only if
at every moment between the two there was enough. A hold counts as free from its deadline on, whenever it was ended.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from loadtests.ledger import Fold
from loadtests.records import Refusal

OF_STOCK = ("insufficient", "all_held", "sold_out")
"""Verdicts that say that there are too few units."""


@dataclass
class Free:
    """Units of one SKU that can be had, over time: `after[i]` from `at_ms[i]` on."""

    at_ms: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)

    def least(self, from_ms: float, until_ms: float) -> int:
        """The least there was from just before the first moment to the last."""
        first, last = bisect_left(self.at_ms, from_ms), bisect_right(self.at_ms, until_ms)
        before = self.after[first - 1] if first else 0
        return min(before, *self.after[first:last]) if last > first else before


def free(ledger: Fold, deadlines: Mapping[str, int]) -> dict[str, Free]:
    """By SKU. Holds of unknown deadline count from the moment that the ledger has their end."""
    changes: dict[str, list[tuple[int, int]]] = {}
    for sku, moves in ledger.moves.items():
        changes[sku] = [(min(at_ms, deadlines.get(ended, at_ms)), units) for at_ms, units, ended in moves]
    for reservation_id, hold in ledger.holds.items():
        if hold.ended_ms is None and reservation_id in deadlines:
            for sku, units in hold.lines.items():
                changes[sku].append((deadlines[reservation_id], units))
    return {sku: _free(sorted(each)) for sku, each in changes.items()}


def _free(changes: list[tuple[int, int]]) -> Free:
    """Within one millisecond what is taken comes first: then the least is never too high."""
    return Free([at_ms for at_ms, _ in changes], list(accumulate(units for _, units in changes)))


def false_refusals(refusals: Iterable[Refusal], ledger: Fold, deadlines: Mapping[str, int]) -> list[str]:
    """One sentence for each line that was refused for want of stock though there was enough all the time."""
    found = []
    units_free = free(ledger, deadlines)
    for refusal in refusals:
        for sku, requested, verdict, next_release_ms in refusal.lines:
            if verdict not in OF_STOCK or sku not in units_free:
                continue
            words = f"{sku} was refused as {verdict} to {refusal.user} at {refusal.from_ms:.0f} to {refusal.until_ms:.0f} ms"
            least = units_free[sku].least(refusal.from_ms, refusal.until_ms)
            if least >= requested:
                found.append(f"{words}: {requested} asked, {least} free or due")
            elif 0 < next_release_ms < refusal.from_ms:
                found.append(f"{words}, until a moment that had passed already")
    return found
