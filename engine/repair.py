"""The way out where events of the ledger are lost: a person accepts the gap, and the shop goes on with what is left.

First comes back what Redis's stream still has and the hash chain proves. The rest is a gap: what is left of it stays, rows that
nobody has written are taken out and kept, and from its beginning on readers are lenient (`engine.gaps`) until what Redis holds
has been adopted (`engine.adoption`). Each step can be repeated: a repair that broke off is gone on with by the next one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import orjson

from engine import acknowledged, damage, gaps, ledger, projection
from engine.acknowledged import Acknowledgement
from engine.comparison import OVERLAP
from engine.damage import Damage
from engine.database import Connection, Database, answering
from engine.errors import ConfigurationError, LedgerBroken, StoreUnavailable
from engine.gaps import Gap
from engine.ledger import PAGE, Entry, Position, chained, followed
from engine.recovery import NOTHING_IN_LEDGER, Finding, Need, Recovery
from engine.store import Store
from engine.writer import COPY, MOVE, values_of

OPENS_WITHIN_SECONDS = 60.0
LOOKS_EVERY_SECONDS = 0.1

MAX_FILLED = 1_000_000
"""Events of the stream that are looked through for those of one gap."""


MAX_GAPS = 100
"""More than so many places are one gap: every reader asks of every event which gaps it is behind. Rows in it stay all the same."""


@dataclass(frozen=True)
class Loss:
    """A gap that is to be accepted. `left` of its events are still there, in Postgres or in Redis's stream."""

    after: Position
    upto: Position
    why: str
    left: int = 0
    from_ms: int = 0
    to_ms: int = 0

    @property
    def lost(self) -> int:
        return self.upto.seq - self.after.seq - self.left

    def __str__(self) -> str:
        if self.upto.seq == self.after.seq:
            return f"the event after {self.after.entry_id} can't follow those before it ({self.why})"
        when = f", between {_time(self.from_ms)} and {_time(self.to_ms)}" if self.from_ms and self.to_ms else ""
        return f"{self.lost} of the {self.upto.seq - self.after.seq} events after {self.after.entry_id} up to {self.upto.entry_id} are lost{when}"


class Repair:
    """Not for several threads at once."""

    def __init__(self, database: Database, store: Store, recovery: Recovery) -> None:
        self._database = database
        self._store = store
        self._recovery = recovery
        self._partition = store.keys.partition

    def look(self) -> list[Damage]:
        """All damage to the ledger, from its first row on."""
        with self._database.connect() as connection, answering(), connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return damage.whole(connection, self._partition, OVERLAP)

    def mend(self, found: list[Damage], *, dry_run: bool = False) -> list[Damage]:
        """Put right what the hash chain proves, while the shop sells on. Returns: what is left, or would be."""
        left = found
        with self._database.connect() as connection, answering(), connection.transaction(force_rollback=dry_run):
            # It waits while Redis is asked.
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            # What was told of one place may be mended with another.
            mended = [damage.mend(connection, self._store, each, replacing=True) for each in found]
            if any(mended):
                left = damage.whole(connection, self._partition, OVERLAP)
        return left

    def losses(self, left: list[Damage]) -> list[Loss]:
        """The gaps that would have to be accepted for the damage that can't be mended, or else for what Redis has beyond the ledger.

        Raises:
            ConfigurationError: Redis has other events than the ledger, or the ledger can't be read.
        """
        left = list(map(self._beyond, left))
        for each in left:
            if each.kind is not damage.Kind.ROWS:
                raise ConfigurationError(f"{each.why}, and Redis has other events there; --force gives those up")
        if len(left) > MAX_GAPS:
            left = [replace(left[0], upto=left[-1].upto)]
        found = [self._loss(each.after, each.upto, each.why) for each in left]
        if found:
            return found
        finding = self._recovery.compare()
        if finding.need is Need.DECISION:
            return [self._ahead(finding)]
        try:
            if finding.need is Need.CERTIFY:
                self._recovery.writer.drain()
            self._recovery.projection.advance()
        except LedgerBroken as broken:
            if broken.name != "ledger_unfoldable":
                return [self._ahead(replace(finding, why=str(broken), broken=broken.name))]
            with self._database.connect() as connection, answering():
                at = ledger.at(connection, self._partition, *projection.reached(connection, self._partition))
            return [Loss(at, at, str(broken))]
        return []

    def give_up_redis(self) -> None:
        """Forget all that Redis has: it will be made anew from what is left of the ledger.

        Raises:
            ConfigurationError: the ledger is empty; that would only erase.
        """
        with self._recovery.alone():
            if self._end().seq == 0:
                raise ConfigurationError(NOTHING_IN_LEDGER)
            self._recovery.wipe(self._recovery.shut("what it had was given up by a person", restoring=True))

    def accept(self, losses: list[Loss], by: Acknowledgement) -> None:
        """Have everybody walk over these gaps. All of them at once, or none.

        Raises:
            StoreUnavailable: Redis or Postgres can't be reached, or the ledger has changed meanwhile.
        """
        with self._recovery.alone():
            if any(loss.upto.seq > self._end().seq for loss in losses):
                # Redis must not go on from events that nobody has.
                self._recovery.shut("the ledger goes on after a gap that was accepted", restoring=False)
            with self._database.connect() as connection, answering(), connection.transaction():
                # It waits while rows are judged, and Redis is asked.
                connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                end = ledger.position(connection, self._partition, lock=True)
                for loss in losses:
                    self._accept(connection, loss, end, by)

    def reopen(self) -> None:
        """Have the gate opened, by this process or a keeper.

        Raises:
            ConfigurationError: a person has still to decide something else.
            StoreUnavailable: nobody could open it.
        """
        give_up_s = time.monotonic() + OPENS_WITHIN_SECONDS
        while not self._recovery.certified():
            try:
                outcome = self._recovery.recover()
            except StoreUnavailable:
                # Another one is at it.
                if time.monotonic() > give_up_s:
                    raise
                time.sleep(LOOKS_EVERY_SECONDS)
                continue
            if isinstance(outcome, Finding):
                raise ConfigurationError(outcome.why)

    def _end(self) -> Position:
        with self._database.connect() as connection, answering():
            return ledger.position(connection, self._partition)

    def _beyond(self, each: Damage) -> Damage:
        """Rows beyond the ledger's position, as the end of a gap, if one of them is as it was written."""
        if each.kind is not damage.Kind.BEYOND:
            return each
        with self._database.connect() as connection, answering():
            last = damage.last_beyond(connection, self._partition, each.after)
        return replace(each, upto=last, kind=damage.Kind.ROWS) if last else each

    def _loss(self, after: Position, upto: Position, why: str) -> Loss:
        with self._database.connect() as connection, answering():
            sound, _ = self._rows(connection, Gap(*_words(after, upto)))
            first = self._at_ms(connection, "<=", after, "DESC")
            last = self._at_ms(connection, ">=" if (upto.epoch, upto.seq) in sound else ">", upto, "ASC")
        known = {seq for _, seq in sound}
        left = len(known | {entry.seq for entry in self._entries(after, upto)})
        return Loss(after, upto, why, left, first, last)

    def _at_ms(self, connection: Connection, side: str, at: Position, order: str) -> int:
        row = connection.execute(
            f"SELECT at_ms FROM ledger WHERE partition = %s AND (epoch, seq) {side} (%s, %s) ORDER BY epoch {order}, seq {order} LIMIT 1",  # noqa: S608
            [self._partition, at.epoch, at.seq],
        ).fetchone()
        return int(row[0]) if row else 0

    def _ahead(self, finding: Finding) -> Loss:
        """Redis, or what was made out of the ledger, goes on from an event that the ledger doesn't have, and neither does the stream.

        Raises:
            ConfigurationError: they contradict each other.
        """
        here, there = finding.redis, finding.ledger
        with self._database.connect() as connection, answering():
            known = Position(*projection.reached(connection, self._partition))
        if here.seq == 0 and known.seq > there.seq:
            # Of Postgres only the ledger was lost. What was made out of it tells what happened.
            return self._loss(there, replace(known, chain_hash=chained(there.chain_hash, b"")), finding.why)
        if finding.broken != "ledger_gap" or here.seq <= there.seq:
            raise ConfigurationError(
                f"{finding.why}. See stockade restore --dry-run; --force gives up what only Redis has"
            )
        last = self._store.latest_entries(here.entry_id, 1)
        payload_hash = last[0].payload_hash if last and last[0].seq == here.seq else b""
        upto = Position(here.epoch, here.seq, payload_hash, chained(there.chain_hash, payload_hash))
        return self._loss(there, upto, finding.why)

    def _accept(self, connection: Connection, loss: Loss, end: Position, by: Acknowledgement) -> None:
        gap = Gap(*_words(loss.after, loss.upto))
        sound, wrong = self._rows(connection, gap)
        for row in wrong:
            what = orjson.dumps(row, default=lambda value: value.hex()).decode()
            acknowledged.note(connection, self._partition, acknowledged.Kind.ROW, what, by)
            connection.execute(damage.REMOVE, [self._partition, row[0], row[1]])
        position = loss.after
        with connection.cursor().copy(COPY) as copy:
            for entry in self._entries(loss.after, loss.upto):
                # Nothing chains these to the ones before the gap, but the last one to those behind it.
                ends = entry.seq == loss.upto.seq
                if ends and entry.payload_hash != loss.upto.payload_hash:
                    continue
                chain_hash = loss.upto.chain_hash if ends else chained(position.chain_hash, entry.payload_hash)
                position = Position(entry.epoch, entry.seq, entry.payload_hash, chain_hash)
                if (entry.epoch, entry.seq) not in sound:
                    copy.write_row(values_of(self._partition, entry, position))
        acknowledged.note(connection, self._partition, acknowledged.Kind.GAP, str(loss), by, gap)
        if gap.seq > end.seq:
            connection.execute(MOVE, [self._partition, gap.epoch, gap.seq, gap.payload_hash, gap.chain_hash])

    def _rows(self, connection: Connection, gap: Gap) -> tuple[set[tuple[int, int]], list[damage.Row]]:
        """The names of the rows in a gap that are as they were written, and the others."""
        sound, wrong = set[tuple[int, int]](), list[damage.Row]()
        position = Position(gap.after_epoch, gap.after_seq)
        bounds = Damage(position, Position(gap.epoch, gap.seq), "")
        for row in damage.rows_of(connection, self._partition, bounds, MAX_FILLED):
            try:
                position = followed(position, row, [gap])
                sound.add((row[0], row[1]))
            except LedgerBroken:
                wrong.append(row)
        return sound, wrong

    def _entries(self, after: Position, upto: Position) -> list[Entry]:
        """What the stream still has of the events after one position, up to another."""
        found, first = list[Entry](), f"({after.entry_id}" if after.seq else "-"
        while upto.seq > after.seq and len(found) < MAX_FILLED and (page := self._store.entries(first, PAGE)):
            found += [entry for entry in page if (entry.epoch, entry.seq) <= (upto.epoch, upto.seq)]
            first = f"({page[-1].epoch}-{page[-1].seq}"
            if (page[-1].epoch, page[-1].seq) >= (upto.epoch, upto.seq):
                break
        return found


def unsettled(database: Database, partition: str) -> list[Gap]:
    """Gaps that were accepted, and of which nobody has adopted yet what Redis holds."""
    with database.connect() as connection, answering():
        return gaps.unsettled(gaps.read(connection, partition))


def _words(after: Position, upto: Position) -> tuple[int, int, int, int, bytes, bytes]:
    return after.epoch, after.seq, upto.epoch, upto.seq, upto.payload_hash, upto.chain_hash


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
