"""The record check: a thread of the keeper that leads looks once a second whether the record is whole, and says so.

It judges the newest rows of the ledger each time, and all others in turn; how far ledger and projections are behind; and
whether Redis holds what the ledger says (`engine.drift`). Missing rows that Redis's stream still has it puts back. What it
finds is one hash in Redis, which every process reads with its overview.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from engine import damage, gaps, ledger, projection
from engine.comparison import OVERLAP
from engine.damage import Damage, Kind
from engine.database import Connection, Database, answering
from engine.drift import Drift
from engine.errors import EngineError
from engine.ledger import Position
from engine.replay import ReplayCheck
from engine.store import Store
from engine.values import Problems

LOOK_SECONDS = 1.0
WALK_SECONDS = 0.1
"""How long older rows of the ledger are judged in a second: some 10,000 rows."""

MAX_BEHIND_SECONDS = 10.0
"""Postgres may be that far behind Redis, and the projections behind the ledger."""

LONGEST_S = 10.0
WORDS_AGAIN_SECONDS = 30.0
MAX_SHOWN = 10
MAX_NOTED = 1_000

TRY_AGAIN_SECONDS = 10.0
"""Pause after damage that could not be mended."""

log = structlog.get_logger()


class RecordCheck:
    """`trouble` says why the ledger isn't written, '' if it is."""

    def __init__(self, database: Database, store: Store, trouble: Callable[[], str]) -> None:
        self._database = database
        self._store = store
        self._trouble = trouble
        self._drift = Drift(store)
        self._replay = ReplayCheck(store)
        self._connection: Connection | None = None
        self._damage: list[Damage] = []
        self._walked = Position()
        self._takes_over = True
        self._tried_s: dict[Damage, float] = {}
        self._moved_s = time.monotonic()
        self._moved_to = (0, 0)
        self._said: tuple[tuple[str, ...], float] = ((), 0.0)

    def run(self, leads: Callable[[], bool], stop: threading.Event) -> None:
        """Look once a second while this keeper leads."""
        while not stop.wait(LOOK_SECONDS):
            if not leads():
                self.close()
                self._takes_over = True
                continue
            try:
                self.look()
            except EngineError as error:
                self.close()
                self._say("record_unchecked", (str(error),), because=str(error.__cause__ or ""))
            except Exception:
                self.close()
                log.exception("record_check_failed")
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def look(self) -> list[str]:
        """Look at the next part, put back what can be, and publish what is wrong.

        Raises:
            EngineError: Redis or Postgres can't be reached.
        """
        now_ms = self._store.now_ms()
        if self._takes_over:
            self._walked, self._damage = damage.read(self._store.notes())
            self._takes_over = False
        with answering():
            if self._connection is None:
                self._connection = self._database.connect(longest_s=LONGEST_S)
            connection = self._connection
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                self._damage = self._damaged(connection)
                behind = self._behind(connection)
                drift = self._drift.look(connection)
            self._damage = [each for each in self._damage if not self._mended(connection, each)]
        problems = [*(each.why for each in self._damage), *behind, *drift]
        notes = damage.noted(self._walked, self._damage[:MAX_NOTED])
        shown, aof = tuple(problems[:MAX_SHOWN]), self._replay.look()
        self._store.publish_problems(Problems(now_ms, len(problems), shown, notes, aof))
        self._say("record_damaged", tuple(problems[:MAX_SHOWN]))
        return problems

    def _damaged(self, connection: Connection) -> list[Damage]:
        """All damage to the ledger that is known now."""
        partition = self._store.keys.partition
        begin, found = damage.newest(connection, partition, OVERLAP)
        known = [
            each
            for each in self._damage
            if each.kind is Kind.ROWS and each.upto.seq <= begin.seq and damage.lasts(connection, partition, each)
        ]
        give_up_s = time.monotonic() + WALK_SECONDS
        more = True
        while more and time.monotonic() < give_up_s:
            if self._walked.seq >= begin.seq:
                self._walked = Position()
            self._walked, older, more = damage.page(connection, partition, self._walked, begin)
            known += [each for each in older if each not in known]
        return damage.joined([*known, *(each for each in found if each not in known)])

    def _behind(self, connection: Connection) -> list[str]:
        """What doesn't follow: the ledger behind Redis, the projections behind the ledger."""
        partition = self._store.keys.partition
        end, reached = ledger.position(connection, partition), projection.reached(connection, partition)
        found = [
            f"The gap in the ledger after {gap.after_epoch}-{gap.after_seq} was accepted and isn't settled: run stockade repair"
            for gap in gaps.unsettled(gaps.read(connection, partition))
        ]
        waiting = self._store.entries(f"({end.entry_id}" if end.seq else "-", 1)
        since = (waiting[0].fields[1] or "") if waiting else ""
        if since.isascii() and since.isdigit() and self._store.now_ms() - int(since) > MAX_BEHIND_SECONDS * 1000:
            found.append(
                f"The ledger doesn't follow Redis beyond {end.entry_id}: {self._trouble() or 'the keeper is slow'}"
            )
        # The epoch of an empty ledger is noted before its first event.
        follows = reached == (end.epoch, end.seq) or not end.seq
        if follows or reached != self._moved_to:
            self._moved_s, self._moved_to = time.monotonic(), reached
        if not follows and time.monotonic() - self._moved_s > MAX_BEHIND_SECONDS:
            epoch, seq = reached
            found.append(f"The projections stand at {epoch}-{seq}, the ledger goes to {end.entry_id}")
        return found

    def _mended(self, connection: Connection, each: Damage) -> bool:
        if time.monotonic() - self._tried_s.get(each, -TRY_AGAIN_SECONDS) < TRY_AGAIN_SECONDS:
            return False
        if not damage.mend(connection, self._store, each):
            self._tried_s = {**dict(list(self._tried_s.items())[-MAX_NOTED:]), each: time.monotonic()}
            return False
        log.warning("record_mended", why=each.why, after=each.after.entry_id, upto=each.upto.entry_id)
        return True

    def _say(self, event: str, problems: tuple[str, ...], **more: str) -> None:
        """Log what is wrong when it changes, and every now and then."""
        said, at_s = self._said
        if said == problems and (not problems or time.monotonic() - at_s < WORDS_AGAIN_SECONDS):
            return
        self._said = (problems, time.monotonic())
        if problems:
            log.error(event, problems=list(problems), **more)
        else:
            log.info("record_whole")
