"""The recovery gate: nobody sells from a Redis that hasn't been compared with the ledger since it started.

Redis may have come up empty, with its last second missing, or as a replica that was behind. What it lacks is put back
from Postgres, what Postgres lacks is drained; if neither continues the other, the gate stays shut and says so (a fork).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import psycopg
import structlog

from engine import comparison, gaps, ledger, projection
from engine.comparison import OVERLAP
from engine.database import Connection, Database, answering
from engine.errors import ConfigurationError, LedgerBroken, StoreUnavailable
from engine.fold import Answer, Hash
from engine.ids import random_id
from engine.keys import LAYOUT
from engine.ledger import PAGE, Position
from engine.projection import Projection
from engine.restoring import Restoring
from engine.scripts import Scripts
from engine.states import State
from engine.store import Store
from engine.values import number, unpacked
from engine.writer import Writer

RECOVERY_LOCK = 0x53746F636B52
PIPELINED = 500
GUARD_SECONDS = 15.0
NOTHING_IN_LEDGER = "The ledger in Postgres is empty; there is nothing to make Redis from"
MAX_REPLAYED = 500_000
"""Events that Redis lacks, up to which only what they touched is put back; beyond, everything is."""

log = structlog.get_logger()


class Need(StrEnum):
    """What a Redis needs before it may sell."""

    CERTIFY = "certify"
    REPLAY = "replay"
    REBUILD = "rebuild"
    UPGRADE = "upgrade"
    DECISION = "decision"


@dataclass(frozen=True)
class Finding:
    """What the comparison found. `why` is for people, `broken` the name of what makes a decision necessary, if the ledger is broken;
    `redis` and `ledger` are how far each goes."""

    need: Need
    why: str
    redis: Position
    ledger: Position
    broken: str = ""


Found = Callable[[Need, str], Finding]


@dataclass(frozen=True)
class Recovered:
    """What was put back."""

    finding: Finding
    reservations: int
    skus: int


class Recovery:
    """Not for several threads at once: it has connections of its own."""

    def __init__(self, database: Database, store: Store, scripts: Scripts, retain_ms: int) -> None:
        self._database = database
        self._store = store
        self._scripts = scripts
        self._retain_ms = retain_ms
        self._guard: Connection | None = None
        self.writer = Writer(database, store)
        self.projection = Projection(database, store.keys.partition)

    def certified(self) -> bool:
        """Whether the gate is open on the server that is connected to."""
        meta, last = self._store.head()
        sound = _readable(meta) and last in ("", f"{meta['epoch']}-{meta['seq']}") and _layout(meta) == LAYOUT
        return sound and meta.get("gate") == "open" and meta.get("run_id") == self._store.run_id()

    def recover(self) -> Recovered | Finding:
        """Compare, do what is safe, open the gate.

        Returns: the finding alone, if a person must decide; the gate is shut then.

        Raises:
            StoreUnavailable: Redis or Postgres can't be reached, or somebody else took over. The gate is shut, or open
                and only its event isn't in Postgres yet.
        """
        with self.alone():
            token = self.shut("being compared with the ledger", restoring=False)
            finding = self.compare()
            match finding.need:
                case Need.DECISION:
                    return self._undecided(finding)
                case Need.REBUILD | Need.UPGRADE:
                    token, recovered = self._made_anew(finding)
                case Need.REPLAY if self._unsettled():
                    # What was lost may be about more than the events that Redis lacks are about.
                    token, recovered = self._made_anew(finding)
                case Need.REPLAY:
                    recovered = self._put_back(token, finding, self._touched(finding))
                case _:
                    recovered = Recovered(finding, 0, 0)
            try:
                if recovered.finding.need is not Need.REBUILD and (why := self._differs(finding)):
                    log.error("redis_differs", why=why, effect="it is made anew from the ledger")
                    token, recovered = self._made_anew(replace(finding, why=f"{finding.why}, but {why}"))
                self._open(token, recovered)
            except LedgerBroken as broken:
                return self._undecided(replace(finding, need=Need.DECISION, why=str(broken)))
            return recovered

    def _differs(self, finding: Finding) -> str:
        """What Redis holds otherwise than the ledger says, though their events agree; '' if all is as it must be."""
        certified = self._store.meta().get("run_id", "")
        if finding.need is Need.CERTIFY:
            self.writer.drain()
        self.projection.advance(self._still_here)
        if self._store.replicated(certified) or (finding.need is Need.CERTIFY and self._unsettled()):
            # Behind a gap that was accepted and isn't settled Redis is right.
            return ""
        with self._database.connect() as connection, answering(), connection.transaction():
            # It waits while Redis is read.
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            return "; ".join(comparison.differences(self._store, connection, self._still_here))

    def _unsettled(self) -> bool:
        with self._database.connect() as connection, answering():
            return bool(gaps.unsettled(gaps.read(connection, self._store.keys.partition)))

    def _undecided(self, finding: Finding) -> Finding:
        self.shut(f"fork: {finding.why}", restoring=False)
        return finding

    def rebuild(self, finding: Finding) -> Recovered:
        """Forget what Redis has, and make it anew from the ledger. A person has decided that.

        Where the two don't contradict each other, what only Redis has is carried over to the ledger before, so nothing is lost.

        Raises:
            ConfigurationError: the ledger is empty; that would only erase.
        """
        if finding.ledger.seq == 0:
            raise ConfigurationError(NOTHING_IN_LEDGER)
        with self.alone():
            token, recovered = self._made_anew(finding)
            self._open(token, recovered)
            return recovered

    def compare(self) -> Finding:
        """Look, and change nothing. A sale may go on meanwhile: both are read as of one moment."""
        with self._database.connect() as connection, answering(), connection.transaction():
            # A writer that is about to commit may have read events that Redis has lost since: it is waited for. While the
            # lock is held none can begin, so the stream is not trimmed beyond `there`, and what Redis has more is not written.
            there = ledger.position(connection, self._store.keys.partition, lock=True)
            meta, last = self._store.head()
            readable = _readable(meta)
            here = Position(int(meta["epoch"]), int(meta["seq"])) if readable else Position()

            def found(need: Need, why: str) -> Finding:
                return Finding(need, why, here, there)

            if "restoring" in meta:
                return found(Need.REBUILD, "an earlier restore did not get to its end")
            if "epoch" not in meta:
                if self._store.has_stock():
                    return found(Need.DECISION, "Redis has stock, but no meta")
                if there.seq == 0:
                    return found(Need.CERTIFY, "new")
                return found(Need.REBUILD, f"Redis is empty, the ledger goes to {there.entry_id}")
            if not readable:
                return found(Need.DECISION, "Redis has a meta without a readable epoch, seq or clock_ms")
            try:
                finding = self._compared(connection, found, last, here, there)
            except LedgerBroken as broken:
                return replace(found(Need.DECISION, str(broken)), broken=broken.name)
            if (layout := _layout(meta)) < LAYOUT and finding.need is not Need.REBUILD:
                why = f"Redis has layout {layout}, of an earlier version; {finding.why}"
                return found(Need.UPGRADE if here.seq >= there.seq else Need.REBUILD, why)
            return finding

    def _compared(self, connection: Connection, found: Found, last: str, here: Position, there: Position) -> Finding:
        # That the ledger's last event is lost may have been accepted.
        lost = not last and here.entry_id == there.entry_id and not there.payload_hash
        if here.seq and not lost and last != here.entry_id:
            raise LedgerBroken("ledger_gap", f"The last event in Redis's stream isn't {here.entry_id}")
        # Where the newest event that both have is the same, there is no fork; an older one that isn't is damage, found later.
        newest, entries = min(here.seq, there.seq), self._store.latest_entries(last or "+", OVERLAP)
        ledger.compare(connection, self._store.keys.partition, [entry for entry in entries if entry.seq == newest])
        if here.seq >= there.seq:
            lacking = here.seq - there.seq
            self.writer.following(there)
            why = f"Redis has {lacking} events that the ledger lacks" if lacking else "Redis lacks no event"
            return found(Need.CERTIFY, why)
        if here.seq == 0:
            return found(Need.REBUILD, f"Redis has no event, the ledger goes to {there.entry_id}")
        missing = there.seq - here.seq
        need = Need.REPLAY if missing <= MAX_REPLAYED else Need.REBUILD
        return found(need, f"Redis lacks the last {missing} events of the ledger")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let nobody else recover meanwhile; the token in meta keeps out one whose connection to Postgres was lost."""
        with self._database.connect() as guard, answering():
            # A keeper that is stopped in the middle of it is followed by another one after that time.
            guard.execute("SELECT set_config('idle_session_timeout', %s, false)", [str(int(GUARD_SECONDS * 1000))])
            self._guard = guard
            row = guard.execute("SELECT pg_try_advisory_lock(%s)", [RECOVERY_LOCK]).fetchone()
            if not row or not row[0]:
                raise StoreUnavailable("Another process is recovering this Redis")
            try:
                yield
            finally:
                # Postgres lets go of a lock some time after its connection was closed, and the next one may come at once.
                with suppress(psycopg.Error):
                    guard.execute("SELECT pg_advisory_unlock(%s)", [RECOVERY_LOCK])

    def _still_here(self) -> bool:
        """Keep the lock on recovery; another keeper has it if this one stood still. Returns False: go on."""
        if self._guard is not None and not self._guard.closed:
            self._guard.execute("SELECT 1")
        return False

    def shut(self, reason: str, *, restoring: bool) -> str:
        """Returns: the token with which it is shut. `restoring`: what Redis has counts no more."""
        token = random_id()
        self._scripts.close(token, reason, restoring)
        return token

    def _open(self, token: str, recovered: Recovered) -> None:
        """Carry over what Postgres lacks, then open with a new epoch, which the ledger has as an event."""
        finding, partition = recovered.finding, self._store.keys.partition
        reached = self.writer.drain() if finding.need is Need.CERTIFY else finding.ledger
        epoch = max(reached.epoch, finding.redis.epoch) + 1
        with self._database.connect() as connection, answering(), connection.transaction():
            # Nobody may write, out of another Redis maybe, before this one has gone on from that very event.
            if ledger.position(connection, partition, lock=True) != reached:
                raise StoreUnavailable("The ledger has grown meanwhile; it is compared anew")
            clock_ms, selling = projection.selling(connection, partition)
            if reached.seq == 0:
                ledger.begin(connection, partition, epoch)
            self._scripts.open(token, self._store.run_id(), epoch, reached, clock_ms, finding.why, selling)
            self.writer.append(connection)

    def _touched(self, finding: Finding) -> tuple[list[str], list[str]]:
        """Reservations and SKUs that the events are about that Redis lacks."""
        query = "FROM ledger WHERE partition = %s AND (epoch, seq) > (%s, %s)"
        values = [self._store.keys.partition, finding.redis.epoch, finding.redis.seq]
        with self._database.connect() as connection, answering():
            ids = connection.execute(f"SELECT DISTINCT reservation_id {query} AND reservation_id <> ''", values)
            skus = connection.execute(f"SELECT DISTINCT unnest(skus) {query}", values)
            return [name for (name,) in ids], [name for (name,) in skus]

    def _made_anew(self, finding: Finding) -> tuple[str, Recovered]:
        """Forget all that Redis has, also of an earlier restore, and put back what the ledger says."""
        # Nothing is forgotten before it's known that the ledger can be folded.
        self.projection.advance(self._still_here)
        if finding.need in (Need.CERTIFY, Need.UPGRADE):
            self.shut("being restored from the ledger", restoring=False)
            self.writer.drain()
            self.projection.advance(self._still_here)
        token = self.shut("being restored from the ledger", restoring=True)
        self.wipe(token)
        with self._database.connect() as connection, answering():
            # It may have grown until the stream was gone.
            reached = ledger.position(connection, self._store.keys.partition, lock=True)
        return token, self._put_back(token, replace(finding, need=Need.REBUILD, ledger=reached), None)

    def wipe(self, token: str) -> None:
        """Forget all that Redis has; the gate was shut with `token`."""
        keep = {name.encode() for name in (self._store.keys.meta, self._store.keys.keeper)}
        restoring = self._scripts.restore(token, PIPELINED)
        keys = self._store.names() - keep
        for count, key in enumerate(keys):
            restoring.gone(key)
            if count % PAGE == 0:
                self._still_here()
        restoring.finish()

    def _put_back(self, token: str, finding: Finding, only: tuple[list[str], list[str]] | None) -> Recovered:
        self.projection.advance(self._still_here)
        ended_since_ms = self._store.now_ms() - self._retain_ms
        next_release_ms = self._store.next_releases(only[1]) if only else {}
        restoring = self._scripts.restore(token, PIPELINED)
        reservations = skus = count = 0
        with self._database.connect() as connection, answering(), connection.transaction():
            # It locks nothing, and waits while Redis is written.
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            for kind, name, content in projection.read(connection, self._store.keys.partition, ended_since_ms, only):
                if kind == "reservation":
                    reservations += 1
                    _lower(next_release_ms, content[0])
                if kind == "sku":
                    skus += 1
                    if int(content["reserved"]) and name in next_release_ms:
                        content["next_release_ms"] = str(next_release_ms[name])
                _put(restoring, kind, name, content, self._retain_ms)
                if (count := count + 1) % PAGE == 0:
                    self._still_here()
        restoring.finish()
        return Recovered(finding, reservations, skus)


def _layout(meta: Hash) -> int:
    return number(meta.get("layout"))


def _readable(meta: Hash) -> bool:
    return all(meta.get(name, "").isdigit() for name in ("epoch", "seq", "clock_ms"))


def _lower(next_release_ms: dict[str, int], record: Hash) -> None:
    """Note when the next live hold of each SKU ends."""
    if record["state"] == State.RESERVED:
        deadline_ms = int(record["deadline_ms"])
        for line in unpacked(record["lines"]):
            next_release_ms[line.sku] = min(deadline_ms, next_release_ms.get(line.sku, deadline_ms))


def _put(restoring: Restoring, kind: str, name: str, content: Any, retain_ms: int) -> None:
    match kind:
        case "reservation":
            record, ended_ms = content
            if record["state"] == State.RESERVED:
                restoring.hold(name, record)
            else:
                restoring.record(name, record, ended_ms + retain_ms if ended_ms else 0)
        case "sku":
            restoring.sku(name, content)
        case "buyers":
            restoring.buyers(name, content)
        case "checkout":
            reservation_id, at_ms = content
            restoring.checkout(name, reservation_id, at_ms + retain_ms)
        case "payment":
            reservation_id, at_ms = content
            restoring.payment(name, reservation_id, at_ms + retain_ms)
        case "answer":
            kept: Answer = content
            restoring.answer(name, kept.text, kept.at_ms + retain_ms)
