"""Shops to measure: an engine on a private Redis, and what a caller needs of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt

from engine.config import from_environment
from engine.engine import Engine, build
from engine.ids import random_id
from engine.ledger import Position
from engine.replies import Claim
from engine.store import client
from engine.values import Line, Operation, Origin, SkuChange
from loadtests import servers
from loadtests.bench import cores
from loadtests.bench.report import ROOT

SKUS = 100
HOT = "hot"
SOLD_OUT = "sold-out"
MANY = 500
OTHERS = tuple(f"other-{number:03}" for number in range(MANY - 1))
PLENTY = 1_000_000_000
UNITS_HELD = 100
BATCH = 500
OPS = Origin("bench")
SECRET = "of this measurement only, and long enough"
SECRETS = {"STOCKADE_JWT_SECRET": SECRET}
EVERY_SECOND = ("--appendonly", "yes", "--appendfsync", "everysec")
"""As `stockade up` runs its Redis."""


def environment(redis_url: str, database_url: str = "", **more: str) -> dict[str, str]:
    return {**SECRETS, "STOCKADE_REDIS_URL": redis_url, "STOCKADE_DATABASE_URL": database_url, **more}


def engine_of(redis_url: str, database_url: str = "") -> Engine:
    settings = from_environment(environment(redis_url, database_url))
    return build(settings, client(settings))


def open_without_a_ledger(engine: Engine) -> None:
    """Open a new store that nobody writes down, so that its stream stays whole and can be weighed."""
    engine.scripts.close("bench", "new")
    engine.scripts.open("bench", engine.store.run_id(), 1, Position(), 0, "new", {})


def stock(engine: Engine, units: int) -> None:
    """Spread `units` over `SKUS` SKUs."""
    for number in range(SKUS):
        engine.stock.configure(f"sku-{number:05}", units // SKUS, {}, OPS, Operation())


def claim(number: int, hold_ms: int = 900_000, skus: int = SKUS) -> Claim:
    """A user's reservation of one unit."""
    user = f"user-{number:06}"
    lines = (Line(f"sku-{number % skus:05}", 1),)
    origin = Origin(user, random_id(), user)
    return Claim(id=random_id(), origin=origin, lines=lines, hold_ms=hold_ms, by_default=False)


def stock_the_sale(engine: Engine) -> None:
    """One hot SKU with plenty of units, one that live holds have sold out, and others that nobody wants."""
    engine.stock.configure_all([SkuChange(sku, 1, {}) for sku in OTHERS], OPS)
    engine.stock.configure(HOT, PLENTY, {}, OPS, Operation())
    engine.stock.configure(SOLD_OUT, UNITS_HELD, {}, OPS, Operation())
    for number in range(UNITS_HELD):
        user = Origin(f"user-{number:06}", random_id(), f"user-{number:06}")
        lines = (Line(SOLD_OUT, 1),)
        engine.scripts.reserve(Claim(id=random_id(), origin=user, lines=lines, hold_ms=900_000, by_default=False))


@contextmanager
def on_sale(kind: str) -> Iterator[str]:
    """A Redis on the cores that aren't the service's, with an AOF as in production, open and stocked for a sale."""
    with cores.starting_on(cores.REST, servers.running(kind, *EVERY_SECOND)) as url:
        engine = engine_of(url)
        open_without_a_ledger(engine)
        stock_the_sale(engine)
        yield url


@contextmanager
def keeper(redis_url: str, database_url: str) -> Iterator[None]:
    """A keeper in a process of its own, as in production."""
    given = os.environ | environment(redis_url, database_url)
    process = subprocess.Popen([sys.executable, "-m", "engine.cli", "keeper"], env=given, cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def wait_until_open(engine: Engine) -> None:
    while engine.gate() != "open":
        time.sleep(0.01)


def token(subject: str, scope: str) -> str:
    return jwt.encode({"sub": subject, "scope": scope, "exp": int(time.time()) + 86_400}, SECRET, algorithm="HS256")


def about(redis: Any) -> str:
    return f"{server_name(redis)}, {os.cpu_count()} cores"


def server_name(redis: Any) -> str:
    server = redis.info("server")
    if "valkey_version" in server:
        return f"Valkey {server['valkey_version']}"
    return f"Redis {server['redis_version']}"
