"""States of a reservation and the moves between them.

`reserved`   a live hold; the buyer has until its deadline. Moved on by commit, release or expire.
`committed`  paid: an order with units left to ship. Moved on by the fulfil or cancel that leaves none. Kept until then.
`released`   given back by its buyer, an operator or a later checkout. A late payment may still commit it. Gone from Redis after 24 h.
`expired`    its time ran out. A late payment may still commit it. Gone from Redis after 24 h.
`fulfilled`  nothing is left to ship, and some of it was shipped. The end. Gone from Redis after 24 h.
`cancelled`  paid and called off, every unit back in available. The end. Gone from Redis after 24 h.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    RESERVED = "reserved"
    COMMITTED = "committed"
    RELEASED = "released"
    EXPIRED = "expired"
    FULFILLED = "fulfilled"
    CANCELLED = "cancelled"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.RESERVED: frozenset({State.COMMITTED, State.RELEASED, State.EXPIRED}),
    State.COMMITTED: frozenset({State.FULFILLED, State.CANCELLED}),
    State.RELEASED: frozenset({State.COMMITTED}),
    State.EXPIRED: frozenset({State.COMMITTED}),
    State.FULFILLED: frozenset(),
    State.CANCELLED: frozenset(),
}

ORDER_STATE: dict[State, str] = {
    State.COMMITTED: "allocated",
    State.FULFILLED: "fulfilled",
    State.CANCELLED: "cancelled",
}
"""What an order's state is called, by the state of its reservation. Other states are no order."""


class Verdict(StrEnum):
    """Why a line of a refused basket can or can't be had, in the order in which the reasons are looked at."""

    UNKNOWN_SKU = "unknown_sku"
    PAUSED = "paused"
    NOT_STARTED = "not_started"
    ENDED = "ended"
    LIMIT_EXCEEDED = "limit_exceeded"
    OK = "ok"
    INSUFFICIENT = "insufficient"
    ALL_HELD = "all_held"
    SOLD_OUT = "sold_out"


class Availability(StrEnum):
    """What a buyer sees of a SKU, in the order in which the reasons are looked at."""

    UNKNOWN_SKU = "unknown_sku"
    PAUSED = "paused"
    NOT_STARTED = "not_started"
    ENDED = "ended"
    AVAILABLE = "available"
    ALL_HELD = "all_held"
    SOLD_OUT = "sold_out"


class Op(StrEnum):
    """What an event of the ledger tells, as `op`: every word that a script emits."""

    RESERVE = "reserve"
    EXTEND = "extend"
    COMMIT = "commit"
    RELEASE = "release"
    EXPIRE = "expire"
    CANCEL = "cancel"
    FULFIL = "fulfil"
    RESTOCK = "restock"
    WITHDRAW = "withdraw"
    RECOUNT = "recount"
    CONFIGURE = "configure"
    PAUSE = "pause"
    RESUME = "resume"
    DEFAULT_HOLD = "default_hold"
    REFUND_REQUIRED = "refund_required"
    NOTE = "note"
    UNKNOWN_RESERVATION = "unknown_reservation"
    ADOPT = "adopt"
    OPEN = "open"
