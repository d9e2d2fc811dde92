"""What buyers did and were told, call by call: the side of the story that neither Redis nor the ledger can tell."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import inf


class Outcome(StrEnum):
    """`unknown`: no answer came, or a 5xx: it has happened or not, or will still happen."""

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """`next_release_ms` is 0 where none was told, `available` -1 where nobody kept it."""

    sku: str
    requested: int
    available: int
    verdict: str
    next_release_ms: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt. Times are unix ms of the service's clock as near as the buyer knows it, by a clock that never falls.

    `key` is the same for repeats of one call: for a commit the payment id, for a provider's message the id of its event.
    `code` is a refusal's problem code; `lines` is what was asked for (of a fulfil or cancel without lines: nothing).
    `deadline_ms` and `state` are what the answer says of a reservation. For a provider's message `state` is its outcome, and
    `message` and `payment_id` are what it tells of which attempt to pay.
    """

    operation: str
    """reserve, commit, release, extend, fulfil, cancel; or notify, a provider's message other than payment.succeeded, which is a commit."""

    client: int
    user: str
    key: str
    invoked_ms: float
    answered_ms: float = inf
    outcome: Outcome = Outcome.UNKNOWN
    reservation_id: str = ""
    lines: tuple[tuple[str, int], ...] = ()
    deadline_ms: int = 0
    code: str = ""
    late: bool = False
    refused: tuple[RefusedLine, ...] = ()
    state: str = ""
    message: str = ""
    payment_id: str = ""


@dataclass(frozen=True)
class Loss:
    """A time in which Redis may have lost its latest writes, from the blow until it sold again, as `Call` counts time."""

    from_ms: float
    until_ms: float


@dataclass(frozen=True)
class Skew:
    """A time in which Redis's clock was moved: what depends on when a hold ran out can't be judged."""

    from_ms: float
    until_ms: float


@dataclass(frozen=True)
class Down:
    """A time in which no process of the service ran, so that nobody could end a hold whose time ran out."""

    from_ms: float
    until_ms: float


@dataclass(frozen=True)
class Hurt:
    """Something that was done to the record past Stockade; when `/readyz` told of it, or it was right again (ms of a steady clock)."""

    what: str
    from_ms: float
    told_ms: float = inf


def written(calls: Iterable[Call]) -> Iterator[str]:
    """One line of JSON a call; an answer that never came has null for its time."""
    for call in calls:
        fields = asdict(call)
        fields["answered_ms"] = None if call.answered_ms == inf else call.answered_ms
        yield json.dumps(fields)


def read(lines: Iterable[str]) -> Iterator[Call]:
    """The calls that `written` wrote."""
    for line in lines:
        fields = json.loads(line)
        fields["answered_ms"] = inf if fields["answered_ms"] is None else fields["answered_ms"]
        fields["outcome"] = Outcome(fields["outcome"])
        fields["lines"] = tuple((sku, quantity) for sku, quantity in fields["lines"])
        fields["refused"] = tuple(RefusedLine(**line) for line in fields["refused"])
        yield Call(**fields)
