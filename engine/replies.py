"""What scripts are asked for and what they answer, as values; their refusals, as errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from msgspec import Struct

from engine import errors
from engine.sku_names import shown
from engine.states import State, Verdict
from engine.store import Record
from engine.values import Line, LineVerdict, MissingLine, Origin, unpacked

Reply = list[Any]


class Claim(Struct, frozen=True, kw_only=True):
    """A reservation that is asked for.

    `cart_id`: it's the checkout of this cart. `latest` is then the id of the cart's latest reservation, as it was read,
    and `replaces` that reservation, unless it is paid for or gone.
    `by_default`: the buyer asked for no time; where operators have set a default, that counts, and not `hold_ms`.
    """

    id: str
    origin: Origin
    lines: tuple[Line, ...]
    hold_ms: int
    fingerprint: str = ""
    cart_id: str = ""
    latest: str = ""
    replaces: Record | None = None
    by_default: bool


@dataclass(frozen=True)
class Moved:
    """Another checkout of the cart came first."""


class Reserved(Struct, frozen=True):
    created_ms: int
    deadline_ms: int


@dataclass(frozen=True)
class Replayed:
    """The reservation was made before; its record says how it is now."""


class Refused(Struct, frozen=True):
    """`due`: holds whose time has run out by `now_ms` may be in the way. `seen`: deadlines of holds that were asked for along with it."""

    now_ms: int
    due: bool
    lines: tuple[LineVerdict, ...]
    seen: Mapping[str, int]


@dataclass(frozen=True)
class OtherAttempt:
    """Another attempt to pay was noted since the one that was cancelled."""

    payment_id: str


@dataclass(frozen=True)
class Due:
    """Holds that are due by `now_ms` must be expired before the call can be decided."""

    now_ms: int


@dataclass(frozen=True)
class Extended:
    deadline_ms: int
    replayed: bool


@dataclass(frozen=True)
class Committed:
    """`epoch` and `seq`: once the ledger is in Postgres up to there, the answer is durable. So in the next two."""

    committed_ms: int
    late: bool
    epoch: int
    seq: int
    replayed: bool


@dataclass(frozen=True)
class Refundable:
    """The hold had ended, and at least one of these lines can't be had any more."""

    lines: tuple[MissingLine, ...]
    epoch: int
    seq: int


@dataclass(frozen=True)
class Noted:
    """What is on record about a second payment: `required`, that it must be given back."""

    required: bool
    epoch: int
    seq: int


@dataclass(frozen=True)
class Told:
    """What a provider has told is on record; `known`: of a reservation that there is."""

    known: bool
    epoch: int
    seq: int


@dataclass(frozen=True)
class OrderChanged:
    """`fulfilled` and `cancelled` are all that was ever shipped and called off."""

    state: State
    fulfilled: tuple[Line, ...]
    cancelled: tuple[Line, ...]
    replayed: bool


REFUSALS: dict[str, type[errors.EngineError]] = {
    error.code: error
    for error in (
        errors.Closed,
        errors.NotFound,
        errors.IdempotencyKeyReused,
        errors.ReservationExpired,
        errors.AlreadyCommitted,
        errors.PaymentAlreadyUsed,
    )
}
"""Statuses that mean the same from every script and need no more words."""


def reserved(reply: Reply, seen: Mapping[str, int]) -> Reserved | Replayed | Refused | Moved:
    match reply:
        case ["reserved", created_ms, deadline_ms]:
            return Reserved(created_ms, deadline_ms)
        case ["replayed"]:
            return Replayed()
        case ["lines_unavailable", now_ms, due, *values]:
            return Refused(now_ms, bool(due), tuple(_verdicts(values)), seen)
        case ["moved"]:
            return Moved()
    refuse(reply)


def reserved_or_error(
    reply: Reply, seen: Mapping[str, int]
) -> Reserved | Replayed | Refused | Moved | errors.EngineError:
    try:
        return reserved(reply, seen)
    except errors.EngineError as error:
        return error


def order_changed(reply: Reply, status: str) -> OrderChanged:
    """What cancel.lua and fulfil.lua answer, each under its own status."""
    match reply:
        case [first, *rest] if first == "replayed" and rest[0] == status:
            return replace(order_changed(rest, status), replayed=True)
        case [first, state, fulfilled, cancelled] if first == status:
            return OrderChanged(State(state), unpacked(fulfilled), unpacked(cancelled), replayed=False)
        case ["not_in_order", sku]:
            raise errors.ValidationFailed({"lines": [f"The order has not that many of {shown(sku)} left."]})
    refuse(reply)


def refuse(reply: Reply) -> NoReturn:
    match reply:
        case ["wrong_keys"]:
            raise errors.Inconsistent("The reservation's lines are not those that were just read")
        case ["inconsistent", sku]:
            raise errors.Inconsistent(f"The counters of {shown(sku)} are below what this reservation has of it")
        case ["bad_request"]:
            raise errors.ValidationFailed({"lines": ["Quantities and times to hold are whole numbers from 1."]})
        case ["reason_required"]:
            raise errors.ValidationFailed({"reason": ["Must say why: it goes into the record."]})
        case ["invalid_transition", state]:
            raise errors.InvalidTransition(f"Invalid transition: it is {state}.")
        case ["not_found"]:
            raise errors.NotFound("It is gone: no reservation or order has this id any more.")
        case [status, *_]:
            raise REFUSALS[status]
    raise AssertionError(reply)


def done(reply: Reply, wanted: str) -> None:
    """Take the answer of a script that works on the gate. Raises StoreUnavailable: somebody else has taken over."""
    match reply:
        case ["layout_unknown", layout]:
            raise errors.ConfigurationError(f"Redis has layout {layout}, which another version has written")
        case ["taken_over" | "ahead", *_]:
            raise errors.StoreUnavailable("Somebody else has taken over the recovery")
        case [status, *_]:
            assert status == wanted, reply


def flat(fields: Mapping[str, str]) -> list[str | int]:
    """A hash as arguments: field, value, field, value …"""
    return [word for pair in fields.items() for word in pair]


def fields_of(values: Sequence[str]) -> dict[str, str]:
    return dict(zip(values[::2], values[1::2], strict=True))


def _verdicts(values: Sequence[Any]) -> Iterator[LineVerdict]:
    for at in range(0, len(values), 6):
        sku, requested, available, verdict, max_reservable, next_release_ms = values[at : at + 6]
        yield LineVerdict(shown(sku), requested, available, Verdict(verdict), max_reservable, next_release_ms)


def missing_lines(text: str) -> Iterator[MissingLine]:
    for word in text.split():
        sku, _, counts = word.rpartition("=")
        requested, available, *verdict = counts.split("/")
        # Events of layout 1 name only the lines that were short, without a verdict.
        short = Verdict.INSUFFICIENT if int(available) else Verdict.SOLD_OUT
        yield MissingLine(shown(sku), int(requested), int(available), Verdict(verdict[0]) if verdict else short)
