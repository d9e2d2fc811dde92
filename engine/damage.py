"""Damage to the ledger in Postgres: where rows are missing, changed or too many, and how the chain proves what to put back.

A row's chain hash covers every event before it. So each row shows by itself whether it follows the one before, and events
out of Redis's stream are the lost ones if the chain over them ends in the hash that the next sound row has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import orjson

from engine import gaps, ledger
from engine.comparison import OVERLAP
from engine.database import Connection
from engine.errors import LedgerBroken
from engine.gaps import Gap, Gaps
from engine.ledger import PAGE, Position, followed
from engine.store import Store
from engine.writer import COPY, MOVE, follow, values_of

NEWEST = f"""
    SELECT {ledger.COLUMNS}, payload_hash, chain_hash, skus FROM ledger WHERE partition = %s
    ORDER BY epoch DESC, seq DESC LIMIT %s
"""  # noqa: S608

REMOVE = "DELETE FROM ledger WHERE (partition, epoch, seq) = (%s, %s, %s)"

MAX_PUT_BACK = 50_000
"""Events in one transaction."""

Row = Sequence[Any]


class Kind(StrEnum):
    """What a damage is about: rows between two that are sound, the ledger's position, or rows beyond it."""

    ROWS = "rows"
    POSITION = "position"
    BEYOND = "beyond"


@dataclass(frozen=True)
class Damage:
    """Rows after the position `after`, up to `upto`, aren't what was written. `upto` is a row, or the ledger's position.

    Of a position: the ledger goes to `after`, and its position says `upto`.
    """

    after: Position
    upto: Position
    why: str
    kind: Kind = Kind.ROWS


def judged(rows: Sequence[Row], begin: Position, accepted: Gaps) -> tuple[Position, list[Damage]]:
    """What is wrong with rows that should follow `begin`, but for gaps that were accepted. Damage in one place is told once.

    Returns: the position of the last row, as it says itself, and the damage.
    """
    position, found = begin, list[Damage]()
    for row in rows:
        try:
            position = followed(position, row, accepted)
        except LedgerBroken as broken:
            here = _position(row)
            if found and found[-1].upto == position:
                found[-1] = Damage(found[-1].after, here, found[-1].why)
            else:
                found.append(Damage(position, here, str(broken)))
            position = here
    return position, found


def newest(connection: Connection, partition: str, most: int) -> tuple[Position, list[Damage]]:
    """Judge the newest rows, at most so many, and the ledger's position by the last of them. In a transaction of one moment.

    Returns: the position of the first row that was judged, and the damage.
    """
    end, accepted = ledger.position(connection, partition), gaps.read(connection, partition)
    rows = connection.execute(NEWEST, [partition, most + 1]).fetchall()[::-1]
    begin = Position() if len(rows) <= most else _position(rows.pop(0))
    beyond = [row for row in rows if (row[0], row[1]) > (end.epoch, end.seq)]
    last, found = judged(rows[: len(rows) - len(beyond)], begin, accepted)
    last = _over(accepted, last)
    tip, odd = judged(beyond, last, accepted)
    # The epoch of an empty ledger is noted before its first event.
    if (beyond and not odd) or (last != end and last.seq >= end.seq > 0):
        why = f"ledger_conflict: Postgres has events up to {tip.entry_id}, and the ledger's position is {end.entry_id}"
        found.append(Damage(tip, end, why, Kind.POSITION))
    elif last != end and end.seq:
        missing = f"Postgres has no event after {last.entry_id}, and the ledger goes to {end.entry_id}"
        found.append(Damage(last, end, f"ledger_gap: {missing}"))
    if odd:
        why = f"ledger_conflict: Postgres has event {tip.entry_id}, and the ledger goes to {end.entry_id}"
        found.append(Damage(end, tip, why, Kind.BEYOND))
    return begin, found


def page(
    connection: Connection, partition: str, after: Position, upto: Position
) -> tuple[Position, list[Damage], bool]:
    """Judge at most `PAGE` rows after a position, up to another.

    Returns: how far it came, the damage, and whether there may be more.
    """
    bounds = [partition, after.epoch, after.seq, upto.epoch, upto.seq, PAGE]
    rows = connection.execute(ledger.EVENTS, bounds).fetchall()
    accepted = gaps.read(connection, partition)
    last, found = judged(rows, after, accepted)
    if len(rows) == PAGE:
        return last, found, True
    last = _over(accepted, last) if last.seq < upto.seq else last
    if not _proves(last, upto):
        found.append(
            Damage(last, upto, f"ledger_gap: Postgres has no sound event between {last.entry_id} and {upto.entry_id}")
        )
    return upto, found, False


def whole(connection: Connection, partition: str, most: int) -> list[Damage]:
    """All damage to a ledger, in order. In a transaction of one moment."""
    begin, found = newest(connection, partition, most)
    position, older, more = Position(), list[Damage](), begin.seq > 0
    while more:
        position, here, more = page(connection, partition, position, begin)
        older += here
    return joined([*older, *found])


def joined(found: Sequence[Damage]) -> list[Damage]:
    """Damage to rows that follow each other as one, also where pages were judged one by one."""
    whole: list[Damage] = []
    for each in found:
        if whole and whole[-1].kind is each.kind is Kind.ROWS and whole[-1].upto == each.after:
            whole[-1] = replace(whole[-1], upto=each.upto)
        else:
            whole.append(each)
    return whole


def noted(walked: Position, found: Sequence[Damage]) -> str:
    """How far a walk has come and what it has found, as text for `read`."""
    return orjson.dumps(
        [_words(walked), [[_words(each.after), _words(each.upto), each.why, each.kind] for each in found]]
    ).decode()


def read(text: str) -> tuple[Position, list[Damage]]:
    """What `noted` has written; a walk that begins, if it is anything else."""
    try:
        walked, found = orjson.loads(text)
        return _read(walked), [Damage(_read(after), _read(upto), why, Kind(kind)) for after, upto, why, kind in found]
    except (ValueError, TypeError):
        return Position(), []


def _words(position: Position) -> list[object]:
    return [position.epoch, position.seq, position.payload_hash.hex(), position.chain_hash.hex()]


def _read(words: Sequence[Any]) -> Position:
    epoch, seq, payload_hash, chain_hash = words
    return Position(int(epoch), int(seq), bytes.fromhex(payload_hash), bytes.fromhex(chain_hash))


def rows_of(connection: Connection, partition: str, damage: Damage, most: int) -> list[Row]:
    """The rows that are there in the place of a damage."""
    bounds = [partition, damage.after.epoch, damage.after.seq, damage.upto.epoch, damage.upto.seq, most]
    return connection.execute(ledger.EVENTS, bounds).fetchall()


def lasts(connection: Connection, partition: str, damage: Damage) -> bool:
    """Whether the rows of a damage that was found before are still not what was written."""
    position, more = damage.after, True
    while more:
        position, found, more = page(connection, partition, position, damage.upto)
        if found:
            return True
    return False


def mend(connection: Connection, store: Store, damage: Damage, *, replacing: bool = False) -> bool:
    """Write the rows of a damage anew, if Redis's stream has the events and the chain proves them; or set the position right.

    In one transaction; nobody appends meanwhile. Without `replacing` only missing rows are added, because only the owner
    of the table may change or remove one.

    Returns: whether the damage is mended.
    """
    partition = store.keys.partition
    first = f"({damage.after.entry_id}" if damage.after.seq else "-"
    if damage.kind is Kind.ROWS and [entry.seq for entry in store.entries(first, 1)] != [damage.after.seq + 1]:
        # Nobody waits for what the stream hasn't.
        return False
    with connection.transaction():
        end = ledger.position(connection, partition, lock=True)
        if damage.kind is Kind.POSITION:
            return _position_set(connection, store, damage.after, end, replacing=replacing)
        if damage.kind is Kind.BEYOND:
            return replacing and _removed(connection, store, end)
        if damage.upto.seq - damage.after.seq > MAX_PUT_BACK:
            return False
        entries = store.entries(first, damage.upto.seq - damage.after.seq)
        before, position = dict[tuple[int, int], Position](), damage.after
        try:
            for entry in entries:
                before[entry.epoch, entry.seq] = position
                position = follow(position, entry)
        except LedgerBroken:
            return False
        if not _proves(position, damage.upto):
            return False
        sound, wrong = set[tuple[int, int]](), list[tuple[int, int]]()
        for row in rows_of(connection, partition, damage, MAX_PUT_BACK + 1):
            name = (row[0], row[1])
            (sound.add if name in before and _follows(before[name], row) else wrong.append)(name)
        if wrong and not replacing:
            return False
        for epoch, seq in wrong:
            connection.execute(REMOVE, [partition, epoch, seq])
        with connection.cursor().copy(COPY) as copy:
            for entry in entries:
                if (entry.epoch, entry.seq) not in sound:
                    copy.write_row(values_of(partition, entry, follow(before[entry.epoch, entry.seq], entry)))
    return True


def _position_set(connection: Connection, store: Store, after: Position, end: Position, *, replacing: bool) -> bool:
    """Set the ledger's position to its last row, unless Redis has another event there; with `replacing` also where Redis's stream has none."""
    partition = store.keys.partition
    rows = connection.execute(NEWEST, [partition, 1]).fetchall()
    if not rows or (last := _position(rows[0])).seq < end.seq or last != after:
        return False
    beyond = store.entries(last.entry_id, 1)
    if replacing and beyond and beyond[0].seq > last.seq:
        beyond = []
    if beyond and (beyond[0].epoch, beyond[0].seq, beyond[0].payload_hash) != (last.epoch, last.seq, last.payload_hash):
        return False
    connection.execute(MOVE, [partition, last.epoch, last.seq, last.payload_hash, last.chain_hash])
    return True


def _removed(connection: Connection, store: Store, end: Position) -> bool:
    """Remove the rows beyond the ledger's position, unless one may be all that is left of an event.

    Whatever Redis has there the writer then writes anew.
    """
    partition = store.keys.partition
    beyond = store.entries(f"({end.entry_id}" if end.seq else "-", 1)
    goes_on = bool(beyond) and beyond[0].seq == end.seq + 1
    if not goes_on and last_beyond(connection, partition, end):
        return False
    connection.execute(
        "DELETE FROM ledger WHERE partition = %s AND (epoch, seq) > (%s, %s)", [partition, end.epoch, end.seq]
    )
    return True


def last_beyond(connection: Connection, partition: str, end: Position) -> Position | None:
    """Of the rows beyond the ledger's position, the last one that is what somebody has written, though nothing chains it."""
    rows = connection.execute(NEWEST, [partition, OVERLAP]).fetchall()
    own = (row for row in rows if (row[0], row[1]) > (end.epoch, end.seq) and _is_own(row))
    return next(map(_position, own), None)


def _is_own(row: Row) -> bool:
    """Whether the hash of a row is its own."""
    here = _position(row)
    within = Gap(here.epoch, here.seq - 1, here.epoch, here.seq, here.payload_hash, here.chain_hash)
    try:
        followed(Position(here.epoch, here.seq - 1), row, [within])
    except LedgerBroken:
        return False
    return True


def _proves(reached: Position, upto: Position) -> bool:
    """Whether the events up to a position are the ones before it: its chain hash is over all of them."""
    return (reached.entry_id, reached.chain_hash) == (upto.entry_id, upto.chain_hash)


def _over(accepted: Gaps, position: Position) -> Position:
    """The position behind gaps that were accepted, if the next event would be in them and no row of them is left."""
    while gap := gaps.after(accepted, position):
        position = Position(gap.epoch, gap.seq, gap.payload_hash, gap.chain_hash)
    return position


def _follows(before: Position, row: Row) -> bool:
    try:
        followed(before, row)
    except LedgerBroken:
        return False
    return True


def _position(row: Row) -> Position:
    """Of a row, as it says itself."""
    return Position(row[0], row[1], row[15], row[16])
