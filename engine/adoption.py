"""Settles gaps that were accepted: has put on record whatever Redis holds otherwise than the rest of the ledger tells.

The shop sells meanwhile. The whole ledger is folded, leniently behind the gaps, and compared with a picture of Redis and with
the projections; each difference becomes an event that says what Redis holds. When there is none any more the gaps are settled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from contextlib import closing
from dataclasses import dataclass, field

from engine import acknowledged, gaps, ledger, picture, projection
from engine.acknowledged import Acknowledgement
from engine.catching_up import catching_up
from engine.database import Connection, Database, answering
from engine.errors import ConfigurationError, LedgerBroken, StoreUnavailable
from engine.fold import COUNTERS, LEVERS, Fold, Hash
from engine.gaps import Gaps
from engine.ledger import Position
from engine.picture import Difference
from engine.scripts import Scripts
from engine.snapshots import from_ledger
from engine.store import Store

MAX_ROUNDS = 10
MAX_USERS = 1_000
"""Customers' counts in one event."""

NUMBER = re.compile(r"-?[0-9]{1,18}")

ENDED_MEANWHILE = """
    SELECT id, record FROM reservations WHERE partition = %s AND ended_ms >= %s AND (record->>'created_ms')::bigint <= %s
"""
TIMES = """
    SELECT (SELECT at_ms FROM ledger WHERE partition = %(partition)s AND (epoch, seq) <= (%(after_epoch)s, %(after_seq)s)
        ORDER BY epoch DESC, seq DESC LIMIT 1),
    (SELECT at_ms FROM ledger WHERE partition = %(partition)s AND (epoch, seq) > (%(epoch)s, %(seq)s) ORDER BY epoch, seq LIMIT 1)
"""


@dataclass
class Adopted:
    """What was put on record as Redis held it, by name; `seq` is the event with which the gaps are settled."""

    skus: set[str] = field(default_factory=set)
    reservations: set[str] = field(default_factory=set)
    buyers: set[tuple[str, str]] = field(default_factory=set)
    levers: bool = False
    seq: int = 0

    def __bool__(self) -> bool:
        return bool(self.skus or self.reservations or self.buyers or self.levers)

    def count(self, difference: Difference) -> None:
        if difference.kind == "buyers":
            self.buyers.add((difference.name, difference.user))
        else:
            {"sku": self.skus, "reservation": self.reservations}[difference.kind].add(difference.name)


class Adoption:
    def __init__(self, database: Database, store: Store, scripts: Scripts, retain_ms: int) -> None:
        self._database = database
        self._store = store
        self._scripts = scripts
        self._retain_ms = retain_ms
        self._partition = store.keys.partition

    def settle(self, by: Acknowledgement) -> Adopted:
        """Adopt until nothing differs, then settle all gaps.

        Raises:
            StoreUnavailable: Redis or Postgres can't be reached, or the gate is shut.
            ConfigurationError: Redis holds what nobody can read.
            LedgerBroken: the ledger can't be read.
        """
        everything = Adopted()
        with (
            self._database.connect() as connection,
            answering(),
            closing(catching_up(connection, self._database, self._store)) as behind,
        ):
            accepted = gaps.read(connection, self._partition)
            from_ms, to_ms = self._meanwhile(connection, accepted)
            fold = Fold(lookup=lambda name: ledger.record(connection, self._partition, name), gaps=accepted)
            reached = Position()
            for _ in range(MAX_ROUNDS):
                seen = picture.take(self._store, from_ledger(connection, self._partition, behind.ledger))
                picture.refuse_half(seen)
                if torn := [*seen.torn, *_unreadable(seen.fold)]:
                    raise ConfigurationError(
                        f"Redis holds {', '.join(torn[:3])}, which can't be read: look at it with redis-cli"
                    )
                behind.projections(seen.epoch, seen.seq)
                reached = self._folded(connection, fold, reached, (seen.epoch, seen.seq))
                self._know_old(connection, fold, seen.fold.records.keys() - fold.records.keys(), from_ms)
                found = Adopted(levers=any(picture.lever_differences(seen.meta, fold.selling)))
                for difference in picture.differences(seen.fold, fold):
                    found.count(difference)
                self._bring_back(connection, seen.fold.records, found.reservations)
                reached = self._against_projections(connection, fold, reached, (from_ms, to_ms), found)
                if not found:
                    acknowledged.settle(connection, self._partition, reached.seq, gaps.unsettled(accepted))
                    everything.seq = reached.seq
                    return everything
                self._adopt(found, by)
                everything.skus |= found.skus
                everything.reservations |= found.reservations
                everything.buyers |= found.buyers
                everything.levers |= found.levers
        raise StoreUnavailable("Redis holds something else each time it is looked at; try again")

    def _meanwhile(self, connection: Connection, accepted: Gaps) -> tuple[int, int]:
        """The time (ms) of the last event before the gaps that aren't settled, and of the first one behind them."""
        from_ms, to_ms = list[int](), list[int]()
        for gap in gaps.unsettled(accepted):
            names = {
                "partition": self._partition,
                "after_epoch": gap.after_epoch,
                "after_seq": gap.after_seq,
                "epoch": gap.epoch,
                "seq": gap.seq,
            }
            before, behind = connection.execute(TIMES, names).fetchone() or (None, None)
            from_ms.append(before or 0)
            to_ms.append(behind or self._store.now_ms())
        return min(from_ms, default=0), max(to_ms, default=0)

    def _folded(self, connection: Connection, fold: Fold, after: Position, upto: tuple[int, int]) -> Position:
        end = ledger.at(connection, self._partition, *upto)
        for page in ledger.events(connection, self._partition, after, end):
            for event in page:
                try:
                    fold.apply(event)
                except (KeyError, ValueError) as error:
                    raise LedgerBroken(
                        "ledger_unfoldable",
                        f"Event {event.epoch}-{event.seq} can't follow the ones before it: {error}",
                    ) from error
            fold.forget(fold.clock_ms - self._retain_ms)
        return end

    def _know_old(self, connection: Connection, fold: Fold, names: Set[str], before_ms: int) -> None:
        """Redis may keep a record that ended long before anything was lost, and that the fold has let go."""
        query = "SELECT id, record FROM reservations WHERE partition = %s AND id = ANY(%s) AND ended_ms < %s"
        if names:
            fold.records |= dict(connection.execute(query, [self._partition, list(names), before_ms]).fetchall())

    def _against_projections(
        self, connection: Connection, fold: Fold, at: Position, times_ms: tuple[int, int], found: Adopted
    ) -> Position:
        """Note what the projections have otherwise than the fold, and bring back of that what Redis has let go.

        Returns: how far the fold has come: to where the projections are.
        """
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            reached = self._folded(connection, fold, at, projection.reached(connection, self._partition))
            books = projection.live(connection, self._partition, [])
            _, selling = projection.selling(connection, self._partition)
            ended: dict[str, Hash] = dict(connection.execute(ENDED_MEANWHILE, [self._partition, *times_ms]).fetchall())
        for difference in picture.differences(books, fold, live_only=True):
            found.count(difference)
        found.levers |= any(picture.lever_differences(selling, fold.selling))
        for name, record in ended.items():
            if fold.records.get(name) != record:
                self._scripts.recall(name, record)
                found.reservations.add(name)
        return reached

    def _bring_back(self, connection: Connection, here: dict[str, Hash], names: set[str]) -> None:
        """Of reservations that Redis doesn't have any more, the record that the projections have, if it ended or was paid for."""
        gone = sorted(name for name in names if name not in here)
        query = "SELECT id, record FROM reservations WHERE partition = %s AND id = ANY(%s) AND state <> 'reserved'"
        for name, record in connection.execute(query, [self._partition, gone]).fetchall() if gone else ():
            self._scripts.recall(name, record)

    def _adopt(self, found: Adopted, by: Acknowledgement) -> None:
        for kind, names in (("sku", found.skus), ("reservation", found.reservations)):
            for name in sorted(names):
                self._scripts.adopt(kind, name, (), by.actor, by.reason)
        for sku, users in _by_sku(found.buyers):
            for at in range(0, len(users), MAX_USERS):
                self._scripts.adopt("buyers", sku, users[at : at + MAX_USERS], by.actor, by.reason)
        if found.levers:
            self._scripts.adopt("levers", "", LEVERS, by.actor, by.reason)


def _unreadable(held: Fold) -> list[str]:
    """SKUs, and customers' counts, that have no number where one must be: nobody could read the ledger behind them."""
    skus = [f"SKU {sku}" for sku, fields in held.skus.items() if not all(map(_number, map(fields.get, COUNTERS)))]
    counts = [f"the counts of SKU {sku}" for sku, users in held.buyers.items() if not all(map(_number, users.values()))]
    return sorted(skus + counts)


def _number(text: str | None) -> bool:
    return text is not None and NUMBER.fullmatch(text) is not None


def _by_sku(buyers: set[tuple[str, str]]) -> Iterator[tuple[str, list[str]]]:
    by_sku: dict[str, list[str]] = {}
    for sku, user in sorted(buyers):
        by_sku.setdefault(sku, []).append(user)
    yield from by_sku.items()
