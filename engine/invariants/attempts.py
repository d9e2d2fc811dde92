"""Attempts of the same call: those with the same key, of the same user or for the same reservation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.invariants.history import Call

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
    found: dict[str, dict[object, Attempts]] = {"reserve": {}, "commit": {}, "release": {}, "extend": {}}
    for number, call in enumerate(calls):
        # A payment's key names it whoever tells of it; everything else is a user's own.
        whose = call.user if call.operation == "reserve" else call.reservation_id
        of_call = found[call.operation]
        attempts = of_call.get(name := (whose, call.key) if call.key else number)
        if attempts is None:
            attempts = of_call[name] = Attempts(call.user, call.key, call.reservation_id, basket(call.user, call.lines))
        getattr(attempts, call.outcome).append(call)
    return {operation: list(each.values()) for operation, each in found.items()}


def in_order(calls: Iterable[Call]) -> list[Call]:
    return sorted(calls, key=lambda call: call.answered_ms)


def basket(user: str, lines: Iterable[tuple[str, int]]) -> Basket:
    units: dict[str, int] = {}
    for sku, quantity in lines:
        units[sku] = units.get(sku, 0) + quantity
    return user, tuple(sorted(units.items()))
