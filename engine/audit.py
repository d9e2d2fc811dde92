"""What happened, told from the ledger: pages of events for programs, stories for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

from engine.durable import Durability
from engine.errors import StoreUnavailable
from engine.ledger import Filter, Ledger
from engine.lenience import adopted
from engine.values import Event, Line, listed

MAX_TOLD = 1_000

SAYS = {
    "reserve": "reserved {lines} for {user} until {deadline}",
    "extend": "extended the hold to {deadline}",
    "release": "released {lines}",
    "expire": "the hold's time ran out; {lines} went back",
    "commit": "paid with {payment}; {lines} allocated",
    "note": "payment {payment}: the provider told {detail}",
    "unknown_reservation": "payment {payment}: the provider told {detail} of a reservation that doesn't exist",
    "refund_required": "payment {payment} must be given back: {detail}",
    "cancel": "cancelled {lines}; they went back to available",
    "fulfil": "shipped {lines}",
    "restock": "restocked {lines}",
    "withdraw": "withdrew {lines}",
    "recount": "recounted; on_hand changed by {lines}",
    "configure": "changed",
    "pause": "selling paused",
    "resume": "selling resumed",
    "default_hold": "the default hold is {hold}",
    "adopt": "taken over as Redis held it: {held}",
    "open": "the gate was opened",
}


class Audit:
    def __init__(self, durability: Durability, ledger: Ledger) -> None:
        self._durability = durability
        self._ledger = ledger

    def page(self, wanted: Filter, after: str, limit: int) -> tuple[list[Event], str]:
        """Events in order, after the entry id given ('' for the first); whatever happened before the call is there.

        Returns: at most `limit` events, and the entry id to go on after, '' at the end.

        Raises:
            StoreUnavailable: Postgres can't be read, or doesn't have everything yet.
        """
        self._durability.flush()
        return self._ledger.page(wanted, after, limit)

    def catch_up(self) -> str:
        """Have everything that happened before carried to Postgres. Returns: why that can't be done, '' if it was."""
        try:
            self._durability.flush()
        except StoreUnavailable as error:
            return str(error)
        return ""

    def story(self, name: str) -> Iterator[Event]:
        """Every event of the reservation or SKU of that name, as far as Postgres has them."""
        for wanted in (Filter(reservation_id=name), Filter(sku=name)):
            found, after = self._ledger.page(wanted, "", MAX_TOLD)
            yield from found
            while after:
                page, after = self._ledger.page(wanted, after, MAX_TOLD)
                yield from page
            if found:
                return


def told(event: Event) -> str:
    """One event as a line that a person reads."""
    what = SAYS.get(event.op, event.op).format(
        lines=_units(event.lines),
        user=event.user,
        deadline=_time(event.deadline_ms),
        payment=event.payment_id,
        detail=event.detail or "another payment has paid for it",
        hold=_seconds(event.detail),
        held=_held(event),
    )
    changes = _changes(event)
    if changes and changes != event.reason:
        what += f": {changes}"
    if event.op == "commit" and event.detail == "late":
        what += ", late: the hold had ended"
    if event.reservation_id:
        what = f"{event.reservation_id} {what}"
    because = f" ({event.reason})" if event.reason else ""
    return f"{_time(event.at_ms)}  {event.epoch}-{event.seq}  {what}{because}  by {event.actor}, request {event.request_id or '-'}"


def _changes(event: Event) -> str:
    """Which attributes of a SKU became what. Without an operator's reason the event's own says just that."""
    if event.op not in ("recount", "configure") or not event.detail:
        return ""
    try:
        return ", ".join(f"{name}={value}" for name, value in json.loads(event.detail))
    except (TypeError, ValueError):
        # Not written by a script; it is told as it stands.
        return event.detail


def _held(event: Event) -> str:
    """What an event that adopts says that was there."""
    if event.op != "adopt":
        return ""
    try:
        kind, held = adopted(event)
        said = ", ".join(f"{name}={value}" for name, value in held.items())
    except (TypeError, ValueError):
        return event.detail
    return f"{kind} {said or 'that is not there'}"


def _seconds(detail: str) -> str:
    return f"{int(detail) // 1000} s" if detail.isdecimal() else "the deployment's own again"


def _units(lines: tuple[Line, ...]) -> str:
    return listed(lines) if lines else "nothing"


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
