"""Projections: the fold of the ledger, kept in tables, so that records outlive Redis and Redis can be made anew from them.

They follow the ledger in transactions of their own: nobody who pays waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import orjson

from engine import gaps, ledger
from engine.database import Connection, Database, answering
from engine.errors import LedgerBroken
from engine.fold import Answer, Fold, Hash, adopted_users
from engine.ledger import PAGE, Position
from engine.values import Event, unpacked

BEGIN = "INSERT INTO projection_position VALUES (%s, 0, 0, 0, '{}') ON CONFLICT DO NOTHING"
HOW_FAR = "SELECT epoch, seq, clock_ms, selling FROM projection_position WHERE partition = %s FOR UPDATE"
MOVE = "UPDATE projection_position SET (epoch, seq, clock_ms, selling) = (%s, %s, %s, %s) WHERE partition = %s"

PUT_SKUS = """
    INSERT INTO skus SELECT %s, * FROM json_to_recordset(%s) AS put(sku text, record json)
    ON CONFLICT (partition, sku) DO UPDATE SET record = excluded.record
"""
PUT_RESERVATIONS = """
    INSERT INTO reservations
    SELECT %s, * FROM json_to_recordset(%s) AS put(id text, state text, ended_ms bigint, record json)
    ON CONFLICT (partition, id) DO UPDATE
        SET (state, ended_ms, record) = (excluded.state, excluded.ended_ms, excluded.record)
"""
PUT_BUYERS = """
    INSERT INTO buyers SELECT %s, * FROM unnest(%s::text[], %s::text[], %s::bigint[])
    ON CONFLICT (partition, sku, user_name) DO UPDATE SET units = excluded.units
"""
PUT_CHECKOUTS = """
    INSERT INTO checkouts SELECT %s, * FROM unnest(%s::text[], %s::text[], %s::bigint[])
    ON CONFLICT (partition, cart) DO UPDATE
        SET (reservation_id, at_ms) = (excluded.reservation_id, excluded.at_ms)
"""
PUT_ANSWERS = """
    INSERT INTO answers SELECT %s, * FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[])
    ON CONFLICT (partition, operation_id) DO UPDATE
        SET (fingerprint, answer, at_ms) = (excluded.fingerprint, excluded.answer, excluded.at_ms)
"""
PUT_PAYMENTS = """
    INSERT INTO payments SELECT %s, * FROM unnest(%s::text[], %s::text[], %s::bigint[])
    ON CONFLICT (partition, payment_id) DO NOTHING
"""

MAX_LINES = 50_000
"""Lines of the events in one transaction, some more at most."""

READ_RESERVATIONS = """
    SELECT id, record, ended_ms FROM reservations
    WHERE partition = %s AND CASE WHEN %s::text[] IS NULL THEN ended_ms IS NULL OR ended_ms > %s ELSE id = ANY(%s) END
"""
READ_SKUS = "SELECT sku, record FROM skus WHERE partition = %s AND (%s::text[] IS NULL OR sku = ANY(%s))"
READ_BUYERS = """
    SELECT sku, json_object_agg(user_name, units::text) FROM buyers
    WHERE partition = %s AND (%s::text[] IS NULL OR sku = ANY(%s)) GROUP BY sku
"""
READ_CHECKOUTS = "SELECT cart, reservation_id, at_ms FROM checkouts WHERE partition = %s AND at_ms > %s"
READ_PAYMENTS = "SELECT payment_id, reservation_id, at_ms FROM payments WHERE partition = %s AND at_ms > %s"
READ_ANSWERS = "SELECT operation_id, fingerprint, answer, at_ms FROM answers WHERE partition = %s AND at_ms > %s"


class Projection:
    """Not for several threads at once: it has one connection of its own."""

    def __init__(self, database: Database, partition: str) -> None:
        self._database = database
        self._partition = partition
        self._connection: Connection | None = None

    def advance(self, stop: Callable[[], bool] = lambda: False) -> Position:
        """Follow the ledger to its end, or until `stop`.

        Returns: how far the projections go then.

        Raises:
            LedgerBroken: the ledger has a gap or a changed row.
            StoreUnavailable: Postgres can't be reached.
        """
        try:
            with answering():
                if self._connection is None:
                    self._connection = self._database.connect()
                while True:
                    reached, more = self._batch(self._connection)
                    if not more or stop():
                        return reached
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _batch(self, connection: Connection) -> tuple[Position, bool]:
        with connection.transaction():
            # Somebody may have emptied the tables meanwhile, so that all is made anew.
            connection.execute(BEGIN, [self._partition])
            epoch, seq, clock_ms, selling = connection.execute(HOW_FAR, [self._partition]).fetchone() or (0, 0, 0, {})
            end = ledger.position(connection, self._partition)
            if (epoch, seq) == (end.epoch, end.seq):
                return end, False
            at = ledger.at(connection, self._partition, epoch, seq)
            if at.seq >= end.seq:
                # The ledger's position was set back. What is folded already must not be folded again.
                return at, False
            page = _bounded(next(islice(ledger.events(connection, self._partition, at, end), 1), []))
            if not page:
                # Nothing is left of what follows but a gap that was accepted.
                connection.execute(
                    MOVE, [end.epoch, end.seq, clock_ms, orjson.dumps(selling).decode(), self._partition]
                )
                return end, False
            fold = self._touched(connection, page)
            fold.clock_ms, fold.selling = clock_ms, selling
            fold.gaps = gaps.read(connection, self._partition)
            skus, before = set(fold.skus), {sku: dict(users) for sku, users in fold.buyers.items()}
            try:
                fold.apply_all(page)
            except (KeyError, ValueError) as error:
                raise LedgerBroken(
                    "ledger_unfoldable", f"An event after {at.entry_id} can't follow the ones before it: {error}"
                ) from error
            self._put(connection, fold, skus, before)
            last = page[-1]
            connection.execute(
                MOVE, [last.epoch, last.seq, fold.clock_ms, orjson.dumps(fold.selling).decode(), self._partition]
            )
        return Position(last.epoch, last.seq), last.seq < end.seq

    def _touched(self, connection: Connection, page: list[Event]) -> Fold:
        """What the tables have of everything that these events are about."""
        skus = list({line.sku for event in page for line in event.lines})
        ids = list({event.reservation_id for event in page if event.reservation_id})
        users = list({event.user for event in page if event.user})
        fold = Fold()
        found = connection.execute(
            "SELECT id, record, ended_ms FROM reservations WHERE partition = %s AND id = ANY(%s)",
            [self._partition, ids],
        )
        for name, record, ended_ms in found:
            fold.records[name] = record
            if ended_ms is not None:
                fold.ended_ms[name] = ended_ms
        # Behind an accepted gap an event may end what its reservation was before, with other lines.
        skus = list({*skus, *(line.sku for record in fold.records.values() for line in unpacked(record["lines"]))})
        users = list({*users, *(record["user"] for record in fold.records.values()), *adopted_users(page)})
        fold.skus = dict(
            connection.execute(
                "SELECT sku, record FROM skus WHERE partition = %s AND sku = ANY(%s)", [self._partition, skus]
            )
        )
        counts = connection.execute(
            "SELECT sku, user_name, units FROM buyers WHERE partition = %s AND sku = ANY(%s) AND user_name = ANY(%s)",
            [self._partition, skus, users],
        )
        for sku, user, units in counts:
            fold.buyers.setdefault(sku, {})[user] = str(units)
        return fold

    def _put(
        self, connection: Connection, fold: Fold, skus_before: set[str], buyers_before: dict[str, dict[str, str]]
    ) -> None:
        partition = self._partition
        # As one document each: an array's elements would be escaped one by one, in Python.
        skus = [{"sku": name, "record": fields} for name, fields in fold.skus.items()]
        connection.execute(PUT_SKUS, [partition, _json(skus)])
        reservations = [
            {"id": name, "state": fields["state"], "ended_ms": fold.ended_ms.get(name), "record": fields}
            for name, fields in fold.records.items()
        ]
        connection.execute(PUT_RESERVATIONS, [partition, _json(reservations)])
        counts = [(sku, user, int(units)) for sku, users in fold.buyers.items() for user, units in users.items()]
        if counts:
            connection.execute(PUT_BUYERS, [partition, *map(list, zip(*counts, strict=True))])
        lost = [sku for sku in skus_before if sku not in fold.skus]
        if lost:
            connection.execute("DELETE FROM skus WHERE partition = %s AND sku = ANY(%s)", [partition, lost])
        gone = [
            (sku, user)
            for sku, users in buyers_before.items()
            for user in users.keys() - fold.buyers.get(sku, {}).keys()
        ]
        if gone:
            query = "DELETE FROM buyers WHERE partition = %s AND (sku, user_name) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"
            connection.execute(query, [partition, *map(list, zip(*gone, strict=True))])
        carts = [(cart, name, int(fold.records[name]["created_ms"])) for cart, name in fold.checkouts.items()]
        if carts:
            connection.execute(PUT_CHECKOUTS, [partition, *map(list, zip(*carts, strict=True))])
        answers = [(name, kept.fingerprint, kept.answer, kept.at_ms) for name, kept in fold.answers.items()]
        if answers:
            connection.execute(PUT_ANSWERS, [partition, *map(list, zip(*answers, strict=True))])
        payments = [(payment_id, *of) for payment_id, of in fold.payments.items()]
        if payments:
            connection.execute(PUT_PAYMENTS, [partition, *map(list, zip(*payments, strict=True))])


def _bounded(page: list[Event]) -> list[Event]:
    """As much of a page as one transaction takes: big baskets count by their lines."""
    lines = 0
    for number, event in enumerate(page):
        lines += len(event.lines)
        if lines > MAX_LINES:
            return page[: number + 1]
    return page


def forget(connection: Connection, partition: str, before_ms: int) -> None:
    """Let checkouts and answers go that Redis doesn't keep any more either. Reservations and payments stay for good."""
    connection.execute("DELETE FROM checkouts WHERE partition = %s AND at_ms < %s", [partition, before_ms])
    connection.execute("DELETE FROM answers WHERE partition = %s AND at_ms < %s", [partition, before_ms])


def selling(connection: Connection, partition: str) -> tuple[int, dict[str, str]]:
    """The latest time in the ledger, and what operators have set (`LEVERS`), as of the projections."""
    row = connection.execute(
        "SELECT clock_ms, selling FROM projection_position WHERE partition = %s", [partition]
    ).fetchone()
    return (row[0], row[1]) if row else (0, {})


def reached(connection: Connection, partition: str) -> tuple[int, int]:
    """Epoch and seq of the last event that the projections have followed."""
    row = connection.execute("SELECT epoch, seq FROM projection_position WHERE partition = %s", [partition]).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def records(connection: Connection, partition: str, names: list[str]) -> dict[str, Hash]:
    """These reservations, whatever their state."""
    query = "SELECT id, record FROM reservations WHERE partition = %s AND id = ANY(%s)"
    return dict(connection.execute(query, [partition, names]).fetchall())


def skus(connection: Connection, partition: str) -> dict[str, Hash]:
    return dict(connection.execute("SELECT sku, record FROM skus WHERE partition = %s", [partition]).fetchall())


def buyers(connection: Connection, partition: str) -> dict[str, Hash]:
    """By SKU, where there are any."""
    return dict(connection.execute(READ_BUYERS, [partition, None, None]).fetchall())


def live_names(connection: Connection, partition: str) -> set[str]:
    """Of the reservations that hold something."""
    query = "SELECT id FROM reservations WHERE partition = %s AND state = 'reserved' AND ended_ms IS NULL"
    return {name for (name,) in connection.execute(query, [partition])}


def live(connection: Connection, partition: str, also: list[str], *, orders: bool = False) -> Fold:
    """SKUs, limits and live reservations as the fold has them, with `orders` open orders too; and these reservations, whatever their state."""
    fold = Fold()
    fold.skus, fold.buyers = skus(connection, partition), buyers(connection, partition)
    query = (
        "SELECT id, record, ended_ms FROM reservations WHERE partition = %s "
        "AND (ended_ms IS NULL AND (%s OR state = 'reserved') OR id = ANY(%s))"
    )
    for name, record, ended_ms in connection.execute(query, [partition, orders, also]):
        fold.records[name] = record
        if ended_ms is not None:
            fold.ended_ms[name] = ended_ms
    return fold


def read(
    connection: Connection, partition: str, ended_since_ms: int, only: tuple[list[str], list[str]] | None = None
) -> Iterator[tuple[str, str, Any]]:
    """What Redis has to hold: kind, name and content, one after the other. In a transaction of the caller's.

    Reservations that live, or ended no longer ago than that; SKUs; their buyers; checkouts, answers and payments.
    `only`: nothing but these reservations, however long ago they ended, and SKUs, and buyers even where there are none.
    """

    def rows(query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        with connection.cursor(name="restore") as cursor:
            cursor.itersize = PAGE
            yield from cursor.execute(query, [partition, *values])

    ids, skus = only or (None, None)
    for name, record, ended_ms in rows(READ_RESERVATIONS, ids, ended_since_ms, ids):
        yield "reservation", name, (record, ended_ms)
    for name, record in rows(READ_SKUS, skus, skus):
        yield "sku", name, record
    for name in skus or []:
        yield "buyers", name, {}
    for name, users in rows(READ_BUYERS, skus, skus):
        yield "buyers", name, users
    for name, reservation_id, at_ms in rows(READ_CHECKOUTS, ended_since_ms):
        yield "checkout", name, (reservation_id, at_ms)
    for name, fingerprint, answer, at_ms in rows(READ_ANSWERS, ended_since_ms):
        yield "answer", name, Answer(fingerprint, answer, at_ms)
    for payment_id, reservation_id, at_ms in rows(READ_PAYMENTS, ended_since_ms):
        yield "payment", payment_id, (reservation_id, at_ms)


def _json(rows: list[dict[str, Any]]) -> str:
    return orjson.dumps(rows).decode()
