"""Values that the engine takes and gives. Times are milliseconds since 1970 by the clock of Redis.

Those that every request makes are structs of msgspec, which are made ten times faster than dataclasses.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from msgspec import Struct

from engine.sku_names import shown, stored
from engine.states import ORDER_STATE, Availability, State, Verdict


class Line(Struct, frozen=True):
    sku: str
    quantity: int


def summed(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Lines of one SKU added up, in the order in which the SKUs first appear."""
    totals: dict[str, int] = {}
    for line in lines:
        totals[line.sku] = totals.get(line.sku, 0) + line.quantity
    return tuple(Line(sku, quantity) for sku, quantity in totals.items())


def unpacked(text: str) -> tuple[Line, ...]:
    """Lines as they stand in Redis, `sku=quantity sku=quantity`, each SKU in its stored form."""
    return tuple(
        Line(shown(sku), int(quantity)) for sku, _, quantity in (word.rpartition("=") for word in text.split())
    )


def packed(lines: Iterable[Line]) -> str:
    """Lines as they stand in Redis."""
    return " ".join(f"{stored(line.sku)}={line.quantity}" for line in lines)


def listed(lines: Iterable[Line]) -> str:
    """Lines as people read them."""
    return ", ".join(f"{line.sku}={line.quantity}" for line in lines)


def number(text: str | None) -> int:
    """A field that should be a number: 0 if it isn't there, -1 if somebody made something else of it."""
    if not text:
        return 0
    return int(text) if text.isascii() and text.isdigit() else -1


@dataclass(frozen=True)
class Units:
    """Units of all SKUs together, as they were at `as_of_ms` or later, and the SKUs with the most reserved ones, the most first."""

    as_of_ms: int
    on_hand: int
    available: int
    reserved: int
    allocated: int
    most_reserved: tuple[str, ...]


@dataclass(frozen=True)
class Problems:
    """What the record check found at `as_of_ms`: how many things are wrong, and the first of them in words.

    `notes` is for the keeper that leads next: how far the check has come, and which rows of the ledger are damaged.
    `aof`: why a restart of Redis would forget its AOF, '' if it wouldn't.
    """

    as_of_ms: int
    count: int
    first: tuple[str, ...]
    notes: str = ""
    aof: str = ""


class Origin(Struct, frozen=True):
    """Who asks, and in which request. `actor` acts for `user`; for buyers both are the same."""

    actor: str
    request_id: str = ""
    user: str = ""


class Operation(Struct, frozen=True):
    """Makes a call happen once: a repeat with the same id gets the first answer. No fingerprint, no memory."""

    id: str = "none"
    fingerprint: str = ""


class Lever(StrEnum):
    """Whose call it is: the service's own, or an operator's, who must give a reason. A dry run checks all and writes nothing."""

    NONE = ""
    DO = "do"
    DRY_RUN = "dry_run"


class Reservation(Struct, frozen=True):
    id: str
    state: State
    user: str
    lines: tuple[Line, ...]
    created_ms: int
    deadline_ms: int
    replayed: bool = False


class LineVerdict(Struct, frozen=True):
    """One line of a refused basket. `next_release_ms` is 0 if no live hold could give units back."""

    sku: str
    requested: int
    available: int
    verdict: Verdict
    max_reservable: int
    next_release_ms: int


@dataclass(frozen=True)
class MissingLine:
    """A line of a late payment of which at least one line couldn't be had."""

    sku: str
    requested: int
    available: int
    verdict: Verdict


@dataclass(frozen=True)
class Order:
    """A paid reservation. `lines` is what was bought; of it `fulfilled_lines` were shipped and `cancelled_lines` called off."""

    id: str
    user: str
    reservation_state: State
    lines: tuple[Line, ...]
    payment_id: str
    committed_ms: int
    late: bool
    fulfilled_lines: tuple[Line, ...] = ()
    cancelled_lines: tuple[Line, ...] = ()
    returned_lines: tuple[Line, ...] = ()
    replayed: bool = False

    @property
    def state(self) -> str:
        return ORDER_STATE[self.reservation_state]


@dataclass(frozen=True)
class Sku:
    """A SKU's counters and attributes. `limit_per_customer` and the window are None where there is none."""

    sku: str
    on_hand: int
    available: int
    reserved: int
    allocated: int
    name: str | None = None
    limit_per_customer: int | None = None
    sale_starts_ms: int | None = None
    sale_ends_ms: int | None = None
    paused: bool = False
    replayed: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class SkuChange:
    """What is to become of a SKU. `on_hand` None leaves the counters; an empty attribute is cleared, a missing one stays."""

    sku: str
    on_hand: int | None
    attributes: dict[str, str]


class SkuAvailability(Struct, frozen=True):
    """What a buyer sees. `next_release_ms` is 0 unless every free unit is held."""

    sku: str
    available: int
    status: Availability
    next_release_ms: int
    as_of_ms: int


@dataclass(frozen=True)
class CartLine:
    """`fulfillable`: a checkout could have it now, the units that this cart's own live hold has included."""

    sku: str
    quantity: int
    available: int
    status: Availability
    fulfillable: bool


@dataclass(frozen=True)
class Cart:
    id: str
    lines: tuple[CartLine, ...]
    replayed: bool = False


@dataclass(frozen=True)
class Selling:
    paused: bool
    reason: str


EVERY_LINE = "*"
"""What the field `counted` of an event says since layout 2: each line counts for its buyer's limit. Before, it named SKUs or was left out."""


@dataclass(frozen=True)
class Event:
    """One entry of the ledger. A recount's quantity is the change, with its sign.

    `operation` is the id and the fingerprint of a call that must not happen twice.
    `layout` is that of the scripts that wrote it.
    """

    epoch: int
    seq: int
    at_ms: int
    op: str
    actor: str
    user: str
    reservation_id: str
    lines: tuple[Line, ...]
    deadline_ms: int
    payment_id: str
    reason: str
    request_id: str
    detail: str
    operation: str = ""
    layout: int = 2
