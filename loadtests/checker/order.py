"""Whether what buyers were told can be so at all, without a look at the ledger: some order of all that happened explains it.

Every SKU is a counter by itself: what is free is taken, given back when a hold is released or its told deadline comes,
and a refusal tells how much there was. A basket becomes a step for each of its SKUs, so this is a necessary condition:
that all lines of a basket happen at the same moment is not looked at. Nor are carts, whose own hold counts as available to
them, cancelled orders, or stock that comes in while the history lasts: have none of these in it. Who is refused for a limit,
a pause or a window has found nothing out about stock, and counts for nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from engine.invariants import Invariant, Violation
from loadtests.checker.counter import Step, Undecided, unexplained
from loadtests.checker.history import Call, Loss, Skew
from loadtests.checker.operations import History, Margins

BUDGET = 1_000_000
"""States looked at for one SKU."""


@dataclass(frozen=True)
class Explanation:
    """`explained` counts SKUs. Those `undecided` were too much work, or nobody said how much of them there was at first."""

    explained: int
    undecided: tuple[str, ...]
    violations: tuple[Violation, ...]


def explain(
    calls: Iterable[Call],
    stock: Mapping[str, int],
    losses: Sequence[Loss] = (),
    skews: Sequence[Skew] = (),
    margins: Margins = Margins(),  # noqa: B008
    *,
    budget: int = BUDGET,
) -> Explanation:
    """Find an order for each SKU. `stock` is what was free before the first call; every call that moved stock is in `calls`."""
    explained, undecided, violations = 0, [], []
    for sku, operations in sorted(History(calls, losses, skews, margins).by_sku.items()):
        if operations.impossible:
            violations += [Violation(Invariant.EXPLAINED, text) for text in operations.impossible]
        elif sku not in stock:
            undecided.append(sku)
        else:
            found = unexplained(stock[sku], operations.steps, operations.floats, budget)
            if isinstance(found, Step):
                violations.append(Violation(Invariant.EXPLAINED, f"no order explains that {found.text}"))
            elif found is Undecided.UNDECIDED:
                undecided.append(sku)
            else:
                explained += 1
    return Explanation(explained, tuple(undecided), tuple(violations))
