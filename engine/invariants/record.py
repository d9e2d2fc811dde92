"""What the ledger must be by itself, told event by event from its first one.

It knows a second time what the scripts may write, on purpose. With the fold it shares only what a unit does to the counters.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf

from engine.fold import COUNTERS, MOVES, Fold, Hash
from engine.invariants import Invariant, Violation
from engine.invariants.terms import Terms
from engine.lenience import left
from engine.states import State
from engine.values import Event, Line, packed, unpacked

LATE = "commit late"

BEFORE: dict[str, frozenset[State]] = {
    "extend": frozenset({State.RESERVED}),
    "release": frozenset({State.RESERVED}),
    "expire": frozenset({State.RESERVED}),
    "commit": frozenset({State.RESERVED}),
    LATE: frozenset({State.RELEASED, State.EXPIRED}),
    "cancel": frozenset({State.COMMITTED}),
    "fulfil": frozenset({State.COMMITTED}),
    "note": frozenset(State),
    "refund_required": frozenset(State) - {State.RESERVED},
}
"""States in which an event may find its reservation. `reserve` finds none."""

AFTER = {
    "release": State.RELEASED,
    "expire": State.EXPIRED,
    "commit": State.COMMITTED,
    LATE: State.COMMITTED,
}
"""What becomes of it. The detail of a cancel or fulfil says whether it is the end; other events change no state."""

BEFORE_ITS_TIME_IS_UP = frozenset({"extend", "release", "commit"})
WHOLE = frozenset({"release", "expire", "commit", LATE})
"""Events that move all the units of a hold."""

AFTER_ITS_END = frozenset({LATE, "refund_required", "note"})
"""What may happen to a reservation of which nobody knows any more but Postgres."""


@dataclass
class Life:
    """One reservation. `left` are the units that it still holds or has bought, `ended_ms` is 0 while it may go on by itself."""

    state: State
    held: dict[str, int]
    left: dict[str, int]
    deadline_ms: int = 0
    ended_ms: int = 0
    shipped: bool = False
    payment_id: str = ""
    refunds: set[str] = field(default_factory=set)


class Record:
    """The judge of one ledger. Reservations that ended `retain_ms` ago are forgotten, as Redis forgets them: they may begin
    again, be paid late, and what can't be so after any end is still found.

    `part`: the events are those of some SKUs only, lines of others are cut, and there are neither details nor deadlines, as
    `GET /v1/audit` gives it to one who shares a service. Then DENSE_LOG, FENCING and deadlines aren't judged, a payment
    after the hold's end counts as late, and nobody asks for limits, pauses and windows.
    """

    def __init__(self, retain_ms: float = inf, *, part: bool = False) -> None:
        self.counters: dict[str, list[int]] = {}
        self._retain_ms = retain_ms
        self._part = part
        self._last: tuple[int, int] = (0, 0)
        self._lives: dict[str, Life] = {}
        self._terms = Terms()
        self._paid_for: dict[str, str] = {}
        self._ended: deque[tuple[int, str]] = deque()
        self._has_forgotten = False

    def take(self, event: Event) -> list[Violation]:
        """What is wrong with one more event. It has happened all the same, so one fault isn't told over and over."""
        self._forget(event.at_ms - self._retain_ms)
        effect = LATE if event.op == "commit" and self._is_late(event) else event.op
        found = [] if self._part else [*self._order(event), *self._terms.take(event)]
        if event.op == "reserve":
            found += self._begin(event)
        elif event.reservation_id and event.op not in ("unknown_reservation", "adopt"):
            found += self._go_on(event, effect)
        return [*found, *self._move(event, effect)]

    def go_on_from(self, fold: Fold, last: Event) -> None:
        """Take over what is known as of an event, for the events before it weren't judged: some of them are lost."""
        self._last, self._has_forgotten = (last.epoch, last.seq), True
        self.counters = {sku: [int(fields[name]) for name in COUNTERS] for sku, fields in fold.skus.items()}
        self._lives = {name: _life(record, fold.ended_ms.get(name, 0)) for name, record in fold.records.items()}
        self._paid_for = {
            payment_id: name
            for name, life in self._lives.items()
            for payment_id in life.refunds | {life.payment_id}
            if payment_id
        }
        self._ended = deque(sorted((life.ended_ms, name) for name, life in self._lives.items() if life.ended_ms))
        self._terms.go_on_from(fold)

    def _is_late(self, event: Event) -> bool:
        if not self._part:
            return event.detail == "late"
        life = self._lives.get(event.reservation_id)
        return life is not None and life.state in BEFORE[LATE]

    def _forget(self, before_ms: float) -> None:
        while self._ended and self._ended[0][0] <= before_ms:
            ended_ms, name = self._ended.popleft()
            if name in self._lives and self._lives[name].ended_ms == ended_ms:
                life = self._lives.pop(name)
                for payment_id in life.refunds | {life.payment_id}:
                    self._paid_for.pop(payment_id, None)
                self._has_forgotten = True

    def _order(self, event: Event) -> Iterator[Violation]:
        epoch, seq = self._last
        before, self._last = f"{epoch}-{seq}", (event.epoch, event.seq)
        if event.seq != seq + 1:
            yield _wrong(Invariant.DENSE_LOG, event, f"follows {before}")
        if event.epoch < epoch:
            yield _wrong(Invariant.FENCING, event, f"is of an older epoch than {before} before it")
        elif event.op != "open":
            if seq and event.epoch > epoch:
                yield _wrong(Invariant.FENCING, event, f"begins an epoch after {before}, and is no open")
        elif event.epoch == epoch:
            yield _wrong(Invariant.FENCING, event, "opens an epoch that was open before")
        elif event.detail.partition(" ")[0] != before:
            yield _wrong(Invariant.FENCING, event, f"goes on from {event.detail.partition(' ')[0]}, not from {before}")

    def _begin(self, event: Event) -> Iterator[Violation]:
        before, units = self._lives.get(event.reservation_id), _units(event.lines)
        if before is not None:
            yield _wrong(Invariant.LIFECYCLE, event, f"begins what is {before.state}")
        if not units or min(units.values()) < 1:
            yield _wrong(Invariant.LIFECYCLE, event, f"holds {packed(event.lines) or 'nothing'}")
        self._lives[event.reservation_id] = Life(State.RESERVED, units, dict(units), event.deadline_ms)

    def _go_on(self, event: Event, effect: str) -> Iterator[Violation]:
        life = self._lives.get(event.reservation_id)
        if life is None and self._has_forgotten and effect in AFTER_ITS_END:
            if effect == LATE:
                units = _units(event.lines)
                self._lives[event.reservation_id] = Life(State.COMMITTED, units, units, payment_id=event.payment_id)
            return
        if life is None or effect not in BEFORE:
            yield _wrong(Invariant.LIFECYCLE, event, "is none that a reservation has" if life else "finds none")
            return
        if life.state not in BEFORE[effect]:
            yield _wrong(Invariant.LIFECYCLE, event, f"finds it {life.state}")
        if effect in BEFORE_ITS_TIME_IS_UP and 0 < life.deadline_ms <= event.at_ms:
            yield _wrong(Invariant.LIFECYCLE, event, f"comes at {event.at_ms}, its time ran out at {life.deadline_ms}")
        if effect == "expire" and event.at_ms < life.deadline_ms:
            yield _wrong(
                Invariant.RETURN_BOUND, event, f"comes at {event.at_ms}, before its deadline {life.deadline_ms}"
            )
        yield from self._payment(event, effect, life)
        yield from self._units_of(event, effect, life)
        self._end(event, effect, life)

    def _payment(self, event: Event, effect: str, life: Life) -> Iterator[Violation]:
        """At most one payment pays, and none that was to be given back, whichever of it came first."""
        if effect in ("commit", LATE):
            if life.payment_id:
                yield _wrong(Invariant.LIFECYCLE, event, f"pays what {life.payment_id} has paid for")
            if event.payment_id in life.refunds:
                yield _wrong(Invariant.LIFECYCLE, event, f"pays with {event.payment_id}, which was to be given back")
            life.payment_id = event.payment_id
        elif effect == "refund_required":
            if event.payment_id in life.refunds | {life.payment_id}:
                known = "that it is paid with" if event.payment_id == life.payment_id else "that was before"
                yield _wrong(Invariant.LIFECYCLE, event, f"gives back {event.payment_id}, {known}")
            life.refunds.add(event.payment_id)
        if effect in ("commit", LATE, "refund_required"):
            first = self._paid_for.setdefault(event.payment_id, event.reservation_id)
            if first != event.reservation_id and event.layout > 1:
                yield _wrong(
                    Invariant.PAYMENTS, event, f"is by payment {event.payment_id}, which was for reservation {first}"
                )

    def _units_of(self, event: Event, effect: str, life: Life) -> Iterator[Violation]:
        units = _units(event.lines)
        if effect in WHOLE and units != life.held:
            yield _wrong(Invariant.LIFECYCLE, event, f"moves {_said(units)}, but it is about {_said(life.held)}")
        if effect in ("cancel", "fulfil"):
            if any(not 0 < count <= life.left.get(sku, 0) for sku, count in units.items()):
                yield _wrong(Invariant.LIFECYCLE, event, f"takes {_said(units)} of {_said(life.left)}")
            life.left = {sku: left - units.get(sku, 0) for sku, left in life.left.items() if left > units.get(sku, 0)}
            life.shipped = life.shipped or effect == "fulfil"
            # Events of layout 1 ship all that is left, and don't say so.
            became = event.detail or (State.FULFILLED if effect == "fulfil" else "")
            if not self._part and became != _left_as(life):
                yield _wrong(
                    Invariant.LIFECYCLE, event, f"leaves {_said(life.left)}, and makes it {became or 'nothing'}"
                )

    def _end(self, event: Event, effect: str, life: Life) -> None:
        if effect == "extend":
            life.deadline_ms = event.deadline_ms
        partly = effect in ("cancel", "fulfil")
        if partly or effect in AFTER:
            # Of a part nobody knows whether other lines of the order are left.
            if not (partly and self._part):
                life.state = _left_as(life) if partly else AFTER[effect]
            life.ended_ms = 0 if life.state == State.COMMITTED else event.at_ms
            if life.ended_ms:
                self._ended.append((life.ended_ms, event.reservation_id))

    def _move(self, event: Event, effect: str) -> Iterator[Violation]:
        steps = MOVES.get(effect)
        for line in event.lines if steps else ():
            counts = self.counters.setdefault(line.sku, [0] * len(COUNTERS))
            for at, step in enumerate(steps or ()):
                counts[at] += step * line.quantity
            if min(counts) < 0:
                low = ", ".join(f"{name} {count}" for name, count in zip(COUNTERS, counts, strict=True) if count < 0)
                yield Violation(Invariant.NO_OVERSELL, f"SKU {line.sku} has {low} after event {_name(event)}")


def judged(events: Iterable[Event], retain_ms: float = inf, *, part: bool = False) -> Iterator[Violation]:
    """What is wrong with a ledger, as `Record` judges it."""
    record = Record(retain_ms, part=part)
    for event in events:
        yield from record.take(event)


def _life(record: Hash, ended_ms: int) -> Life:
    return Life(
        State(record["state"]),
        _units(unpacked(record["lines"])),
        left(record),
        int(record["deadline_ms"]),
        ended_ms,
        bool(record.get("fulfilled")),
        record.get("payment_id", ""),
        {name.removeprefix("refund:") for name in record if name.startswith("refund:")},
    )


def _left_as(life: Life) -> State:
    """The state of an order by what is left of it."""
    if life.left:
        return State.COMMITTED
    return State.FULFILLED if life.shipped else State.CANCELLED


def _name(event: Event) -> str:
    return f"{event.epoch}-{event.seq} ({event.op})"


def _wrong(invariant: Invariant, event: Event, text: str) -> Violation:
    of = f" of reservation {event.reservation_id}" if event.reservation_id else ""
    return Violation(invariant, f"event {_name(event)}{of} {text}")


def _units(lines: Iterable[Line]) -> dict[str, int]:
    units: dict[str, int] = {}
    for line in lines:
        units[line.sku] = units.get(line.sku, 0) + line.quantity
    return units


def _said(units: dict[str, int]) -> str:
    return " ".join(f"{sku}={count}" for sku, count in sorted(units.items())) or "nothing"
