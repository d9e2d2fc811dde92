"""A shop with its ledger, histories that happen to it, and what must be equal afterwards."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any

import psycopg
import pytest
from redis import Redis

from engine import ledger, verify
from engine.engine import Engine, build
from engine.errors import EngineError
from engine.ledger import Position
from engine.payments import PaymentEvent
from engine.recovery import Recovery
from engine.snapshots import Snapshots
from engine.store import client
from engine.values import Line, Operation, Origin
from loadtests.servers import KINDS, binary, wait_for_redis
from tests import books
from tests.conftest import settings

OPS, SHOP, KEEPER = Origin("ops"), Origin("shop"), Origin("keeper")
NO_KEY = Operation()
USERS = ("ann", "bob", "eve")
SKUS = ("a", "b", "c", "Größe 50%=d/1")


one_kind = pytest.mark.parametrize("server", KINDS[:1], indirect=True, scope="session")
"""For tests of what no server does otherwise than the other."""

each_kind = pytest.mark.parametrize("server", KINDS, indirect=True, scope="session")
"""For tests that show the same of every kind of server, and take no time."""


def buyer(user: str) -> Origin:
    return Origin(user, user=user)


@dataclass
class Shop:
    engine: Engine
    recovery: Recovery

    @property
    def redis(self) -> Any:
        return self.engine.store.redis

    @property
    def url(self) -> str:
        return self.engine.settings.database_url

    @property
    def writer(self) -> Any:
        return self.recovery.writer

    @property
    def group(self) -> Any:
        """Who writes for those that wait."""
        return self.engine.payments._durability

    @property
    def snapshots(self) -> Snapshots:
        engine = self.engine
        recovery = self.recovery
        return Snapshots(engine.database, engine.store, recovery.writer, recovery.projection, engine.settings.retain_ms)

    def close(self) -> None:
        self.recovery.writer.close()
        self.recovery.projection.close()
        self.redis.connection_pool.disconnect()

    def stock(self, sku: str = "a", on_hand: int = 1_000) -> None:
        self.engine.stock.configure(sku, on_hand, {}, OPS, NO_KEY)

    def hold(self, user: str = "ann", sku: str = "a", units: int = 1) -> str:
        return self.engine.reservations.reserve(buyer(user), [Line(sku, units)], 900).id

    def pay(self, reservation_id: str, payment_id: str = "", operation: Operation = NO_KEY) -> Any:
        """Without a payment id, with one that is the reservation's own."""
        return self.engine.reservations.commit(reservation_id, SHOP, payment_id or f"p-{reservation_id}", operation)

    def query(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask Postgres on a connection of its own."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query, values).fetchall()

    def rows(self) -> list[tuple[int, int]]:
        return self.query("SELECT epoch, seq FROM ledger ORDER BY epoch, seq")

    def position(self) -> Position:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return ledger.position(connection, "p0")

    def problems(self) -> tuple[str, ...]:
        found = verify.verify(self.engine.store, self.engine.database, self.engine.settings.retain_ms)
        return found.problems

    def add(self, seq: int, epoch: int = 1, **fields: str | bytes | None) -> str:
        """An event by hand. A field that is None is left out."""
        whole: dict[str, Any] = dict.fromkeys(ledger.FIELDS, "") | {"op": "pause", "at_ms": "1"} | fields
        entry = {name: value for name, value in whole.items() if value is not None}
        return str(self.redis.xadd(self.engine.store.keys.ledger, entry, id=f"{epoch}-{seq}"))


def open_shop(redis_url: str, database_url: str, *, certified: bool = False, **more: str) -> Shop:
    """A shop whose gate nobody has opened yet."""
    given = settings(redis_url, STOCKADE_DATABASE_URL=database_url, **more)
    engine = build(given, client(given, certified=certified), watching=client(given))
    return Shop(engine, Recovery(engine.database, engine.store, engine.scripts, given.retain_ms))


def assert_written(shop: Shop) -> None:
    """Everything that the stream has is in Postgres, once, in order, and the chain holds from the first event on."""
    rows = shop.query(
        f"SELECT {ledger.COLUMNS}, payload_hash, chain_hash, skus FROM ledger WHERE partition = 'p0' ORDER BY epoch, seq"
    )
    assert [row[1] for row in rows] == list(range(1, len(rows) + 1))
    position = Position()
    for row in rows:
        position = ledger.followed(position, row)
    assert shop.position() == position
    entries = {(entry.epoch, entry.seq): entry for entry in shop.engine.store.entries("-", 100_000)}
    written = {(row[0], row[1]): row for row in rows}
    assert entries.keys() <= written.keys()
    for at, entry in entries.items():
        assert written[at][15] == entry.payload_hash
        assert [written[at][0], written[at][1], *written[at][2:15]] == entry.row()
        assert written[at][17] == entry.skus


def essence(redis: Any) -> dict[str, Any]:
    """Every key that comes out of the ledger: not meta, the stream, totals, carts; answers and SKUs without next_release_ms."""
    found = books.dump(redis)
    kept: dict[str, Any] = {}
    for key, (value, mortal) in found.items():
        name = key.partition(":")[2].partition(":")[2]
        if name in ("meta", "ledger", "keeper", "totals") or key.startswith("stk:cart:"):
            continue
        if name.startswith("sku:"):
            value = {field: text for field, text in value.items() if field != "next_release_ms"}
        if name.startswith("op:"):
            value = _answer(value)
        kept[key] = (value, mortal)
    return kept


def _answer(text: str) -> object:
    fingerprint, _, answer = text.partition(" ")
    status, *words = json.loads(answer)
    if status in ("adjusted", "created", "changed"):
        fields = dict(zip(words[::2], words[1::2], strict=True))
        fields.pop("next_release_ms", None)
        return fingerprint, status, fields
    return fingerprint, status, words


def raw(redis: Any) -> Redis:
    """A client of the same server that takes any bytes."""
    return Redis.from_url("unix://" + redis.connection_pool.connection_kwargs["path"])


def saved(redis: Any) -> dict[bytes, tuple[bytes, int]]:
    """A copy of every key, with the time at which it goes."""
    with raw(redis) as plain:
        keys: Any = plain.keys("*")
        found: dict[bytes, tuple[bytes, int]] = {}
        for key in keys:
            value: Any = plain.dump(key)
            until_ms: Any = plain.execute_command("PEXPIRETIME", key)
            if value is not None:
                found[key] = (value, max(until_ms, 0))
        return found


def put_back(redis: Any, copy: dict[bytes, tuple[bytes, int]]) -> None:
    """Let the server have what it had when the copy was made, and nothing else."""
    with raw(redis) as plain:
        plain.flushall()
        for key, (value, until_ms) in copy.items():
            plain.restore(key, until_ms, value, absttl=True)


def split(shop: Shop, there: int, here: int) -> None:
    """Let Postgres have what one Redis did, while another one, that had been its copy, did something else."""
    copy = saved(shop.redis)
    for _ in range(there):
        shop.engine.stock.adjust("a", 1, OPS, "there", NO_KEY)
    shop.writer.drain()
    put_back(shop.redis, copy)
    for _ in range(here):
        shop.engine.stock.adjust("a", 2, OPS, "here", NO_KEY)


class History:
    """Things that happen to a shop, at random: what is refused is refused."""

    def __init__(self, shop: Shop, seed: int) -> None:
        self.shop, self.engine, self.pick = shop, shop.engine, random.Random(seed)
        self.ids: list[str] = []
        self.carts: list[tuple[str, str]] = []
        self.number = 0
        self.seed = seed

    def begin(self) -> History:
        for sku in SKUS:
            self.shop.stock(sku, self.pick.randint(8, 40))
        self.engine.stock.configure("c", None, {"limit_per_customer": "3"}, OPS, NO_KEY)
        for user in USERS:
            self.carts.append((self.engine.carts.create(buyer(user)).id, user))
        return self

    def go_on(self, steps: int) -> History:
        moves = [
            *[self.reserve] * 6,
            *[self.check_out] * 4,
            *[self.commit] * 5,
            *[self.told] * 2,
            *[self.extend] * 2,
            *[self.release] * 2,
            *[self.cancel] * 3,
            self.fulfil,
            self.time_goes_by,
            self.time_goes_by,
            self.adjust,
            self.adjust,
            self.configure,
            self.recount,
            self.selling,
            self.default_hold,
        ]
        for _ in range(steps):
            try:
                self.pick.choice(moves)()
            except EngineError:
                continue
        return self

    def key(self) -> Operation:
        self.number += 1
        return Operation(f"call{self.seed}x{self.number}", "7") if self.pick.random() < 0.7 else NO_KEY

    def one(self) -> str:
        return self.pick.choice(self.ids[-12:]) if self.ids else "none"

    def basket(self) -> list[Line]:
        return [Line(sku, self.pick.randint(1, 3)) for sku in self.pick.sample(SKUS, self.pick.randint(1, 3))]

    def reserve(self) -> None:
        user = self.pick.choice(USERS)
        self.ids.append(
            self.engine.reservations.reserve(buyer(user), self.basket(), self.pick.choice([60, 300, 900, None])).id
        )

    def check_out(self) -> None:
        cart, user = self.pick.choice(self.carts)
        self.engine.carts.put_line(cart, buyer(user), Line(self.pick.choice(SKUS), self.pick.randint(1, 3)))
        self.ids.append(self.engine.carts.checkout(cart, buyer(user), 900).id)

    def commit(self) -> None:
        reservation_id = self.one()
        self.shop.pay(reservation_id, self.payment(reservation_id), self.key())

    def told(self) -> None:
        event, reservation_id = self.pick.choice([PaymentEvent.SUCCEEDED, *PaymentEvent]), self.one()
        self.number += 1
        payment_id = self.payment(reservation_id)
        self.engine.payments.take(event, f"event {self.seed} {self.number}", reservation_id, payment_id, SHOP)

    def payment(self, reservation_id: str) -> str:
        """Mostly one of two that are the reservation's own."""
        if self.pick.random() < 0.1:
            return "one for many"
        return f"p{self.pick.choice([1, 1, 2])} of {reservation_id}"

    def extend(self) -> None:
        reservation_id = self.one()
        user = self.engine.reservations.get(reservation_id, None).user
        self.engine.reservations.extend(reservation_id, buyer(user), 900, self.key())

    def release(self) -> None:
        self.engine.reservations.release(self.one(), OPS, "", anybody=True)

    def cancel(self) -> None:
        order = self.engine.orders.get(self.one(), None)
        part = [] if self.pick.random() < 0.4 else [Line(order.lines[0].sku, 1)]
        self.engine.orders.cancel(order.id, OPS, "no longer wanted", part, self.key())

    def fulfil(self) -> None:
        order = self.engine.orders.get(self.one(), None)
        part = [] if self.pick.random() < 0.5 else [Line(order.lines[0].sku, 1)]
        self.engine.orders.fulfil(order.id, OPS, part, self.key())

    def time_goes_by(self) -> None:
        store = self.engine.store
        store.redis.hset(store.keys.meta, "clock_ms", store.now_ms() + self.pick.choice([1, 61_000, 301_000]))
        if self.pick.random() < 0.5:
            self.engine.expiry.sweep(KEEPER)

    def adjust(self) -> None:
        self.engine.stock.adjust(self.pick.choice(SKUS), self.pick.choice([-3, -1, 2, 9]), OPS, "", self.key())

    def configure(self) -> None:
        sku, name = self.pick.choice(SKUS), self.pick.choice(["name", "limit_per_customer", "limit_per_customer"])
        value = self.pick.choice(["", "2", "5"]) if name != "name" else self.pick.choice(["", 'Ä "1/2" \\', "B"])
        self.engine.stock.configure(sku, None, {name: value}, OPS, self.key())

    def recount(self) -> None:
        self.engine.stock.configure(self.pick.choice(SKUS), self.pick.randint(10, 60), {}, OPS, self.key())

    def selling(self) -> None:
        self.engine.stock.set_selling(True, "a breath", OPS)
        self.engine.stock.set_selling(False, self.pick.choice(["rested", "go on"]), OPS)

    def default_hold(self) -> None:
        self.engine.stock.set_default_hold(self.pick.choice([None, 60, 300]), "a rush", OPS)


@contextmanager
def selling(shop: Shop, threads: int = 4, sell: Callable[[Shop, int], None] | None = None) -> Iterator[None]:
    """Let threads buy, walk away and call off meanwhile."""
    stop, failed = Flag(), []

    def work(number: int) -> None:
        pick = random.Random(number)
        while not stop.is_set():
            try:
                held = shop.hold(f"u{number}", pick.choice(("a", "b")))
                if pick.random() < 0.5:
                    shop.engine.reservations.release(held, buyer(f"u{number}"))
                else:
                    shop.pay(held)
                    shop.engine.orders.cancel(held, OPS, "", [], NO_KEY)
            except EngineError:
                continue
            except Exception as error:
                failed.append(error)
                raise

    running = [Thread(target=work, args=(number,), daemon=True) for number in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in running:
            thread.join(30)
    assert failed == []


class PrivateRedis:
    """A server that a test may kill and start again; `save` puts on disk what it starts from."""

    def __init__(self, kind: str, *options: str, login: str = "") -> None:
        self.kind = kind
        self.options = options
        self.directory = tempfile.TemporaryDirectory(prefix="stockade-own-")
        self.url = f"unix://{login}{Path(self.directory.name) / 'redis.sock'}"
        self.start()

    def start(self) -> None:
        program = binary(self.kind)
        assert program is not None
        place = self.directory.name
        options = ["--port", "0", "--unixsocket", f"{place}/redis.sock", "--dir", place, "--save", ""]
        self.process = subprocess.Popen([program, *options, *self.options], stdout=subprocess.DEVNULL)
        wait_for_redis(self.url)

    def save(self) -> None:
        with Redis.from_url(self.url) as redis:
            redis.save()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
