"""Attempts of the same call: those with the same key, of the same user or for the same reservation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from loadtests.checker.history import Call

OPERATIONS = ("reserve", "commit", "release", "extend", "fulfil", "cancel", "notify")

Basket = tuple[str, tuple[tuple[str, int], ...]]
"""User and lines: SKUs in order, each once."""


@dataclass(slots=True)
class Attempts:
    """All attempts of one call, by what came of them."""

    user: str
    key: str
    reservation_id: str
    basket: Basket
    ok: list[Call] = field(default_factory=list)
    refused: list[Call] = field(default_factory=list)
    unknown: list[Call] = field(default_factory=list)


def by_key(calls: Iterable[Call]) -> dict[str, list[Attempts]]:
    """By operation. A call without a key is nobody's repeat."""
    found: dict[str, dict[object, Attempts]] = {operation: {} for operation in OPERATIONS}
    for number, call in enumerate(calls):
        # A payment's key names it whoever tells of it; everything else is a user's own.
        whose = call.user if call.operation == "reserve" else call.reservation_id
        of_call = found[call.operation]
        attempts = of_call.get(name := (whose, call.key) if call.key else number)
        if attempts is None:
            attempts = of_call[name] = Attempts(call.user, call.key, call.reservation_id, basket(call.user, call.lines))
        getattr(attempts, call.outcome).append(call)
    return {operation: list(each.values()) for operation, each in found.items()}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal with a verdict for each line, and the two moments between which it was decided."""

    call: Call
    from_ms: float
    until_ms: float


def refusals(calls: Iterable[Call], payments: Iterable[Attempts]) -> Iterator[Refusal]:
    """A refused reservation is decided anew by each call; a payment once: its repeats are told what was decided first."""
    for call in calls:
        if call.operation == "reserve" and call.refused:
            yield Refusal(call, call.invoked_ms, call.answered_ms)
    for attempts in payments:
        told = [call for call in attempts.refused if call.code == "refund_required"]
        with_lines = next((call for call in told if call.refused), None)
        if with_lines:
            from_ms = min(call.invoked_ms for call in (*told, *attempts.unknown))
            yield Refusal(with_lines, from_ms, min(call.answered_ms for call in told))


def in_order(calls: Iterable[Call]) -> list[Call]:
    return sorted(calls, key=lambda call: call.answered_ms)


def basket(user: str, lines: Iterable[tuple[str, int]]) -> Basket:
    units: dict[str, int] = {}
    for sku, quantity in lines:
        units[sku] = units.get(sku, 0) + quantity
    return user, tuple(sorted(units.items()))
