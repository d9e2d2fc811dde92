"""What must always be true, each under one name: for `stockade verify`, the load kit's verdict, chaos and the tests alike.

Who checks what: `live` Redis by itself, `record` the ledger by itself, `told` what buyers were told against the ledger,
`order` whether what buyers were told can be so at all. `engine.verify` compares Redis with the fold of the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Invariant(StrEnum):
    """The name is the word before the colon wherever a violation is printed; the text says what must be true."""

    rule: str

    def __new__(cls, name: str, rule: str) -> Invariant:
        made = str.__new__(cls, name)
        made._value_ = name
        made.rule = rule
        return made

    # Redis by itself
    CONSERVATION = "conservation", "on_hand = available + reserved + allocated, for every SKU"
    RANGE = "range", "no counter is below 0, no customer's count below 1, and each is a number"
    HOLDS = "holds", "reserved = the units of all live reservations, for every SKU"
    ORDERS = "orders", "allocated = the units of all open orders that weren't cancelled, for every SKU"
    DEADLINES = "deadlines", "the ZSET has every live reservation with its deadline, and nothing else"
    NEXT_RELEASE = "next_release", "a SKU's next_release_ms is never later than the first deadline of its live holds"
    LIMITS = (
        "limits",
        "a customer's count is at least what the reservations and orders in Redis hold and bought for them",
    )

    # The ledger by itself
    DENSE_LOG = (
        "dense_log",
        "seq has no gap and no double, each event is the one that was written, and Redis's stream goes on to the seq in meta",
    )
    FENCING = (
        "fencing",
        "the epoch never falls, and rises only with an `open` event that names the event before it; meta has the last one",
    )
    TRIM = "trim", "the stream is trimmed only behind the last event that Postgres has"
    LIFECYCLE = (
        "lifecycle",
        "a reservation begins once, has one terminal state and at most one payment, moves the units that it has, and is paid, "
        "extended or released before its deadline, unless it is paid late, after its end",
    )
    PAYMENTS = "payments", "a payment id belongs to one reservation, which it has paid for or was refused for"
    TERMS = (
        "terms",
        "nothing is reserved or paid late over a customer's limit, while its sale is paused, or outside the sale window",
    )
    NO_OVERSELL = "no_oversell", "no counter is below 0 at any prefix of the ledger"

    # Redis against the ledger
    FOLD = "fold", "the fold of the ledger is what Redis holds, what snapshots hold and what the projections hold"

    # The service about itself
    NOTICED = (
        "noticed",
        "what is wrong with the ledger, its tables or a counter, or a full disk under data or log, is told by /readyz within 15 s, unless it has been put right by then",
    )

    # What buyers were told against the ledger
    ACKNOWLEDGED = (
        "acknowledged",
        "every effect that was acknowledged is in the ledger, unless its promise allows the loss",
    )
    REFUSED = "refused", "a refusal has no effect"
    PREFIX = "prefix", "what a crash took is the end of what happened: nothing stays that came after something lost"
    IDEMPOTENCY = (
        "idempotency",
        "the same call again gets the same answer, and has one effect; a reservation is shown as it is at that moment",
    )
    OWNERSHIP = "ownership", "nobody moves what is another user's"
    NO_FALSE_REFUSAL = (
        "no_false_refusal",
        "no line is refused for want of stock while enough was free or due all the time, nor for a limit that its customer "
        "was not above at any moment of the call",
    )
    RETURN_BOUND = (
        "return_bound",
        "units of a hold that ran out are back within the bound, and never before its deadline",
    )
    EXPLAINED = "explained", "some order of the operations explains every answer"


@dataclass(frozen=True)
class Violation:
    """Something that must not be. As text: `name: what is wrong`. `past`: it is about what the ledger says that happened."""

    invariant: Invariant
    text: str
    past: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"
