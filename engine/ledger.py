"""The ledger in Postgres: rows and their hashes, the audit, the story of one reservation or SKU."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson

from engine import gaps
from engine.database import Connection, Database
from engine.errors import LedgerBroken
from engine.gaps import Gaps
from engine.sku_names import shown
from engine.values import EVERY_LINE, Event, unpacked

TIME = re.compile(r"0|[1-9][0-9]{0,17}")
"""Written as Postgres writes it, so that the hash of the row is that of the event."""

LINE = re.compile(r"\S+=-?[0-9]{1,18}")

FIELDS = (
    "op",
    "at_ms",
    "actor",
    "user",
    "reservation_id",
    "lines",
    "deadline_ms",
    "payment_id",
    "reason",
    "request_id",
    "detail",
    "counted",
    "operation",
)
"""Of an event in the stream, in the order in which they are hashed."""

RAW_FIELDS = tuple(name.encode() for name in FIELDS)

COLUMNS = (
    "epoch, seq, op, at_ms, actor, user_name, reservation_id, lines, deadline_ms, payment_id, reason, request_id, detail, "
    "counted, operation"
)
PAGE = 5_000

EVENTS = f"""
    SELECT {COLUMNS}, payload_hash, chain_hash, skus FROM ledger
    WHERE partition = %s AND (epoch, seq) > (%s, %s) AND (epoch, seq) <= (%s, %s) ORDER BY epoch, seq LIMIT %s
"""  # noqa: S608


@dataclass(frozen=True)
class Position:
    """How far the ledger goes. Nothing is in it yet where `seq` is 0."""

    epoch: int = 0
    seq: int = 0
    payload_hash: bytes = b""
    chain_hash: bytes = b""

    @property
    def entry_id(self) -> str:
        return f"{self.epoch}-{self.seq}"

    @property
    def chain(self) -> str:
        """What an `open` event has as its detail, if it goes on from here."""
        return f"{self.entry_id} {self.chain_hash.hex()}" if self.seq else ""


@dataclass(frozen=True)
class Entry:
    """An event as the stream has it; `fields` in the order of `FIELDS`, `counted` tells the layout: see `EVERY_LINE`."""

    epoch: int
    seq: int
    fields: tuple[str | None, ...]

    @property
    def op(self) -> str | None:
        return self.fields[0]

    @property
    def detail(self) -> str | None:
        return self.fields[10]

    @property
    def payload_hash(self) -> bytes:
        return hashlib.sha256(orjson.dumps([self.epoch, self.seq, *self.fields])).digest()

    def row(self) -> list[object]:
        """The values of `COLUMNS`. Raises ValueError if it isn't an event of ours."""
        values: list[object] = list(self.fields)
        if None in values[:11]:
            raise ValueError("a field is missing")
        at_ms, lines, deadline_ms = str(values[1]), str(values[5]), str(values[6])
        if not (TIME.fullmatch(at_ms) and TIME.fullmatch(deadline_ms or "0")):
            raise ValueError("a time is no number")
        if not all(LINE.fullmatch(word) for word in lines.split()):
            raise ValueError("a line has no number")
        values[1], values[6] = int(at_ms), int(deadline_ms) if deadline_ms else None
        return [self.epoch, self.seq, *values]

    @property
    def skus(self) -> list[str]:
        return [shown(word.rpartition("=")[0]) for word in (self.fields[5] or "").split()]


def entry_of(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry:
    """An entry as the stream holds it.

    Postgres can't keep a NUL and Redis takes any byte, so what isn't text is shown as an escape, here as everywhere.
    """
    epoch, _, seq = entry_id.partition(b"-")
    found = map(fields.get, RAW_FIELDS)
    texts = [None if text is None else _text(text) for text in found]
    return Entry(int(epoch), int(seq), (*texts[:12], texts[12] or ""))


def _text(raw: bytes) -> str:
    text = raw.decode(errors="backslashreplace")
    return text.replace("\x00", "\\x00") if "\x00" in text else text


def chained(before: bytes, payload_hash: bytes) -> bytes:
    return hashlib.sha256(before + payload_hash).digest()


@dataclass(frozen=True)
class Reached:
    """How far the ledger in Postgres goes, when that event was, and the newest snapshot: when it was taken (0: there is none) and
    what was off with it. `unsnapped_ms` is the time of the oldest event that is not in a snapshot; 0 if there is none."""

    epoch: int
    seq: int
    at_ms: int
    snapshot_ms: int
    snapshot_problems: int
    unsnapped_ms: int


@dataclass(frozen=True)
class Filter:
    """What to list. An empty field matches everything."""

    sku: str = ""
    reservation_id: str = ""
    user: str = ""
    op: str = ""

    def where(self) -> tuple[str, list[object]]:
        wanted = {"reservation_id": self.reservation_id, "user_name": self.user, "op": self.op}
        clauses: list[str] = ["partition = %s"]
        values: list[object] = []
        for column, value in wanted.items():
            if value:
                clauses.append(f"{column} = %s")
                values.append(value)
        if self.sku:
            clauses.append("skus @> ARRAY[%s::text]")
            values.append(self.sku)
        return " AND ".join(clauses), values


class Ledger:
    """Reads of the record. What Redis has that Postgres lacks is not in it."""

    def __init__(self, database: Database, partition: str) -> None:
        self._database = database
        self._partition = partition

    def page(self, wanted: Filter, after: str, limit: int) -> tuple[list[Event], str]:
        """Events in order, after the entry id given ('' for the first).

        Returns: at most `limit` events, and the entry id to go on after, '' at the end.
        """
        epoch, _, seq = (after or "0-0").partition("-")
        where, values = wanted.where()
        query = f"SELECT {COLUMNS} FROM ledger WHERE {where} AND (epoch, seq) > (%s, %s) ORDER BY epoch, seq LIMIT %s"  # noqa: S608
        arguments = [self._partition, *values, int(epoch), int(seq), limit + 1]
        rows = self._database.run(lambda connection: connection.execute(query, arguments).fetchall())
        found = [event_of(row) for row in rows[:limit]]
        return found, f"{found[-1].epoch}-{found[-1].seq}" if len(rows) > limit else ""

    def has(self, epoch: int, seq: int) -> bool:
        query = "SELECT 1 FROM ledger WHERE (partition, epoch, seq) = (%s, %s, %s)"
        arguments = [self._partition, epoch, seq]
        return self._database.run(lambda connection: connection.execute(query, arguments).fetchone()) is not None

    def reached(self) -> Reached:
        query = """
            SELECT at.epoch, at.seq,
                (SELECT at_ms FROM ledger WHERE (partition, epoch, seq) = (at.partition, at.epoch, at.seq)),
                newest.taken_ms, cardinality(newest.problems),
                (SELECT at_ms FROM ledger
                    WHERE partition = at.partition AND (epoch, seq) > (coalesce(newest.epoch, 0), coalesce(newest.seq, 0))
                    ORDER BY epoch, seq LIMIT 1)
            FROM ledger_position AS at LEFT JOIN LATERAL (
                SELECT epoch, seq, taken_ms, problems FROM snapshots WHERE partition = at.partition
                ORDER BY epoch DESC, seq DESC LIMIT 1
            ) AS newest ON true
            WHERE at.partition = %s
        """
        arguments = [self._partition]
        row = self._database.run(lambda connection: connection.execute(query, arguments).fetchone())
        return Reached(row[0], row[1], *(value or 0 for value in row[2:])) if row else Reached(0, 0, 0, 0, 0, 0)

    def unwritable(self) -> str:
        """What would keep a commit from being written; '' if nothing would. Raises: StoreUnavailable."""
        return self._database.unwritable()

    def record(self, reservation_id: str) -> dict[str, str] | None:
        """The hash of a reservation, as the projection has it."""
        return self._database.run(lambda connection: record(connection, self._partition, reservation_id))

    def payment(self, payment_id: str) -> str | None:
        """The id of the reservation that a payment was for, as the projection has it."""
        return self._database.run(lambda connection: payment(connection, self._partition, payment_id))


def record(connection: Connection, partition: str, reservation_id: str) -> dict[str, str] | None:
    """The hash of a reservation, as the projection has it."""
    query = "SELECT record FROM reservations WHERE (partition, id) = (%s, %s)"
    row = connection.execute(query, [partition, reservation_id]).fetchone()
    return row[0] if row else None


def payment(connection: Connection, partition: str, payment_id: str) -> str | None:
    """The id of the reservation that a payment was for, as the projection has it."""
    query = "SELECT reservation_id FROM payments WHERE (partition, payment_id) = (%s, %s)"
    row = connection.execute(query, [partition, payment_id]).fetchone()
    return row[0] if row else None


def position(connection: Connection, partition: str, *, lock: bool = False) -> Position:
    """How far the ledger goes. With `lock` nobody else appends until the transaction ends."""
    query = "SELECT epoch, seq, payload_hash, chain_hash FROM ledger_position WHERE partition = %s"
    row = connection.execute(query + (" FOR UPDATE" if lock else ""), [partition]).fetchone()
    return Position(*row) if row else Position()


def begin(connection: Connection, partition: str, epoch: int) -> None:
    """Note the epoch in which an empty ledger begins, so that no other Redis ever has the same."""
    query = "UPDATE ledger_position SET epoch = %s WHERE partition = %s AND seq = 0"
    connection.execute(query, [epoch, partition])


def at(connection: Connection, partition: str, epoch: int, seq: int) -> Position:
    """The position of one event; where `seq` is 0, the beginning. It may be lost in a gap that was accepted.

    Raises:
        LedgerBroken: Postgres doesn't have it.
    """
    if seq == 0:
        return Position()
    query = "SELECT epoch, seq, payload_hash, chain_hash FROM ledger WHERE (partition, epoch, seq) = (%s, %s, %s)"
    row = connection.execute(query, [partition, epoch, seq]).fetchone()
    if row is not None:
        return Position(*row)
    gap = gaps.after(gaps.read(connection, partition), Position(epoch, seq - 1))
    if gap is None:
        raise LedgerBroken("ledger_gap", f"Postgres has no event {epoch}-{seq}")
    return Position(epoch, seq, gap.payload_hash, gap.chain_hash) if seq == gap.seq else Position(epoch, seq)


def hashes(connection: Connection, partition: str, entries: Sequence[Entry]) -> dict[int, tuple[int, bytes]]:
    """Epoch and payload hash that Postgres has, by seq, in the place of these events."""
    if not entries:
        return {}
    seqs, epochs = [entry.seq for entry in entries], {entry.epoch for entry in entries}
    newest = position(connection, partition).epoch
    epochs |= set(range(min(epochs), newest + 1))
    query = (
        "SELECT epoch, seq, payload_hash FROM ledger WHERE partition = %s AND epoch = ANY(%s) AND seq BETWEEN %s AND %s"
    )
    rows = connection.execute(query, [partition, list(epochs), min(seqs), max(seqs)]).fetchall()
    return {seq: (epoch, payload_hash) for epoch, seq, payload_hash in rows}


def compare(connection: Connection, partition: str, entries: Sequence[Entry]) -> None:
    """Make sure that Postgres has nothing else in the place of one of these events.

    Raises:
        LedgerBroken: it has.
    """
    known = hashes(connection, partition, entries)
    for entry in entries:
        if entry.seq in known and known[entry.seq] != (entry.epoch, entry.payload_hash):
            raise LedgerBroken("ledger_conflict", f"Event {entry.epoch}-{entry.seq} in Redis isn't the one in Postgres")


def events(connection: Connection, partition: str, after: Position, upto: Position) -> Iterator[list[Event]]:
    """Events after one position up to another, page by page, the hash chain checked on the way; over gaps that were accepted.

    Raises:
        LedgerBroken: a row was changed or is missing.
    """
    position, accepted = after, gaps.read(connection, partition)
    while position.seq < upto.seq:
        values = [partition, position.epoch, position.seq, upto.epoch, upto.seq, PAGE]
        rows = connection.execute(EVENTS, values).fetchall()
        for row in rows:
            position = followed(position, row, accepted)
        if rows:
            yield [event_of(row) for row in rows]
        elif gap := gaps.after(accepted, position):
            position = Position(gap.epoch, gap.seq, gap.payload_hash, gap.chain_hash)
        else:
            raise LedgerBroken("ledger_gap", f"Postgres has no event after {position.entry_id}")


def followed(before: Position, row: Sequence[object], accepted: Gaps = ()) -> Position:
    """The position of a row of `EVENTS`, if it is the next one and as it was written. Raises: LedgerBroken."""
    epoch, seq, *values = row[:15]
    texts = [None if value is None else str(value) for value in values]
    texts[6] = texts[6] or ""
    entry = Entry(int(str(epoch)), int(str(seq)), tuple(texts))
    payload_hash = entry.payload_hash
    changed = payload_hash != row[15] or entry.skus != row[17]
    gap = gaps.after(accepted, before)
    while gap and entry.seq > gap.seq:
        # Behind it may be another one.
        before = Position(gap.epoch, gap.seq, gap.payload_hash, gap.chain_hash)
        gap = gaps.after(accepted, before)
    if gap is None:
        if entry.seq != before.seq + 1:
            raise LedgerBroken("ledger_gap", f"Postgres has no event between {before.entry_id} and {epoch}-{seq}")
        changed = changed or chained(before.chain_hash, payload_hash) != row[16]
    if changed or entry.seq <= before.seq:
        raise LedgerBroken("ledger_changed", f"Event {epoch}-{seq} in Postgres isn't what was written")
    chain_hash = row[16]
    assert isinstance(chain_hash, bytes)
    return Position(entry.epoch, entry.seq, payload_hash, chain_hash)


def event_of(row: Sequence[object]) -> Event:
    epoch, seq, op, at_ms, actor, user, reservation_id, lines, deadline_ms, *rest = row[:15]
    payment_id, reason, request_id, detail, counted, operation = (None if text is None else str(text) for text in rest)
    return Event(
        epoch=int(str(epoch)),
        seq=int(str(seq)),
        at_ms=int(str(at_ms)),
        op=str(op),
        actor=str(actor),
        user=str(user),
        reservation_id=str(reservation_id),
        lines=unpacked(str(lines)),
        deadline_ms=int(str(deadline_ms or 0)),
        payment_id=payment_id or "",
        reason=reason or "",
        request_id=request_id or "",
        detail=detail or "",
        operation=operation or "",
        layout=2 if counted == EVERY_LINE else 1,
    )
