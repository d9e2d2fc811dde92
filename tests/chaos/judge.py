"""The judge: every invariant, after each episode with the shops closed, and over the whole history at the end of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import inf

from engine import verify
from engine.audit import Audit
from engine.ledger import Filter
from engine.values import Event
from loadtests.checker.history import Call, Outcome, Skew
from loadtests.checker.noticed import unnoticed
from loadtests.checker.operations import Margins
from loadtests.checker.order import explain
from loadtests.checker.told import Bounds, told
from loadtests.checker.windows import Windows
from tests.chaos.arena import Arena, on_hand
from tests.chaos.buyers import SKUS
from tests.chaos.regulars import REGULAR, of_regulars

PAGE = 10_000

PROMISED_MS = 1_000.0
"""A hold that was confirmed less than this before Redis lost data may be lost with it.

docs/durability.md promises 50 ms and one write of the ledger; on a machine that also runs the buyers that takes its time.
"""

RETURN_MS = 10_000
"""How late the sweeper may give back what nobody asks for, with faults of seconds each, three at a time.

A run is short: with 30 s only every seventh hold that ran out would be judged.
"""

NOTICED_MS = 15_000
"""Until when damage to the record must be told."""

CART_AGE_MS = 10_000
"""How long before its checkout a cart is filled, at most."""

SLACK_MS = 150
"""How far a buyer's times may be off Redis's, where both have one clock but two cores for twenty processes."""

MARGINS = Margins(SLACK_MS, PROMISED_MS, lingers_ms=60_000, longest_hold_ms=60_000)
"""A call without an answer happens within a minute, or never; no buyer asks for more time than that."""


def books(arena: Arena) -> Iterator[str]:
    """What is off now, with nobody trading."""
    engine = arena.engine
    yield from verify.verify(engine.store, engine.database, engine.settings.retain_ms).problems
    shipped: Counter[str] = Counter()
    for event in events(engine.audit, Filter(op="fulfil")):
        shipped.update({line.sku: line.quantity for line in event.lines})
    for sku in (*SKUS, *REGULAR):
        found, expected = engine.stock.get(sku), on_hand(sku) - shipped[sku]
        if found.on_hand != expected:
            yield f"conservation: SKU {sku} had on_hand {on_hand(sku)}, of which {shipped[sku]} were shipped: {found}"


def events(audit: Audit, wanted: Filter = Filter()) -> list[Event]:  # noqa: B008
    """The whole ledger, or what is wanted of it."""
    found, after = audit.page(wanted, "", PAGE)
    while after:
        page, after = audit.page(wanted, after, PAGE)
        found += page
    return found


def history(arena: Arena) -> tuple[list[str], Counter[str]]:
    """What is off with what buyers were told, against the ledger and by itself; and how much of it could be judged."""
    calls, happened = arena.history.calls, events(arena.engine.audit)
    bounds = Bounds(PROMISED_MS, SLACK_MS, RETURN_MS, arena.history.clock.now_ms(), down=arena.downs)
    found = list(told(calls, happened, arena.losses, arena.skews, bounds))
    stock = {sku: on_hand(sku) for sku in SKUS}
    searched = [call for call in calls if not of_regulars(call)]
    explanation = explain(_before_any(arena.skews, searched), stock, arena.losses, margins=MARGINS)
    judged = Counter(
        {
            "SKUs whose answers an order explains": explanation.explained,
            "SKUs for which that is undecided": len(explanation.undecided),
        }
    )
    found += unnoticed(arena.hurts, NOTICED_MS)
    return [*map(str, (*found, *explanation.violations)), *strange(arena)], judged


def _before_any(skews: Iterable[Skew], calls: Iterable[Call]) -> list[Call]:
    """What was asked before Redis's clock was moved: with that the search is not to be trusted. What wasn't answered by then is unclear."""
    cut_ms = min((skew.from_ms for skew in skews), default=inf)
    asked = (call for call in calls if call.invoked_ms < cut_ms)
    unclear = {"outcome": Outcome.UNKNOWN, "answered_ms": inf, "deadline_ms": 0, "code": "", "refused": ()}
    return [
        call if call.answered_ms < cut_ms or call.answered_ms == inf else replace(call, **unclear) for call in asked
    ]


def strange(arena: Arena) -> Iterator[str]:
    """A part that is broken is a 503; any other 5xx says that somebody has not thought of it. So do lines that nobody asked for.

    A cart may have lost lines with a Redis, not long before its checkout.
    """
    losses = Windows(arena.losses, CART_AGE_MS, CART_AGE_MS)
    lost = [text for from_ms, until_ms, text in arena.history.shortened if not losses.touch(from_ms, until_ms)]
    if answers := [*arena.history.strange, *lost]:
        yield f"{len(answers)} answers were 5xx, but not 503, or of other lines; the first at {answers[0]}"
