"""The engine without HTTP: how many reservations a second, and how long one takes beside few and many live holds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import repeat

from engine.engine import Engine
from engine.ids import fingerprint, random_id
from engine.values import Line, Origin
from loadtests import servers
from loadtests.bench import cores, shop
from loadtests.bench.caller import percentile
from loadtests.bench.report import Run, Target, number, table

THREADS = 16
FEW, MANY = 1_000, 1_000_000
CALLS = 10_000
TURN = 100


def engine(run: Run) -> None:
    """Reservations through the engine: by one thread, by as many as a worker has, and in batches of 100."""
    with shop.on_sale(run.kind) as url, cores.on(cores.SERVICE):
        ours = shop.engine_of(url)

        def batch() -> int:
            claims = [shop.claim(number, skus=1) for number in range(100)]
            return len(ours.reservations.reserve_all(claims))

        def one() -> int:
            return _reserve(ours, shop.HOT)

        ways: dict[str, tuple[Callable[[], int], int]] = {
            "reserve, 1 thread": (one, 1),
            f"reserve, {THREADS} threads": (one, THREADS),
            "reserve_all of 100, 1 thread": (batch, 1),
        }
        shop.stock(ours, shop.PLENTY)
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(run.rounds):
            for name, (way, threads) in ways.items():
                rates[name].append(_rate(way, threads, run.seconds))
    medians = {name: run.note("engine", name, "/s", found) for name, found in rates.items()}
    print(f"\nengine: no HTTP, one process, medians of {run.rounds}")
    print(table([("", "reservations/s"), *((name, number(median)) for name, median in medians.items())]), flush=True)


def holds(run: Run) -> None:
    """Single reservations beside 1,000 and beside 1,000,000 live ones, on two servers in turn."""
    many = run.sized(MANY)
    with ExitStack() as stack:
        waits: dict[int, list[list[float]]] = {}
        engines: dict[int, Engine] = {}
        for live in (FEW, many):
            url = stack.enter_context(cores.starting_on(cores.REST, servers.running(run.kind)))
            engines[live], waits[live] = shop.engine_of(url), []
            _fill(engines[live], live)
        stack.enter_context(cores.on(cores.SERVICE))
        for _ in range(run.rounds):
            for live, found in zip(engines, _waits_in_turn(list(engines.values()), run.sized(CALLS)), strict=True):
                waits[live].append(sorted(found))
    rows, p50_ms = [("", "p50 ms", "p99 ms")], {}
    for live, rounds in waits.items():
        name = f"beside {live:,} live holds"
        p50_ms[live] = run.note("holds", name, "p50 ms", [statistics.median(found) for found in rounds])
        p99_ms = run.note("holds", name, "p99 ms", [percentile(found, 99) for found in rounds])
        rows.append((name, f"{p50_ms[live]:.4f}", f"{p99_ms:.4f}"))
    print(
        f"\nholds: one reserve after the other through the engine, medians of {run.rounds}\n{table(rows)}", flush=True
    )
    name = f"reserve p50 beside {many:,} / {FEW:,} live holds"
    run.compare(name, p50_ms[many], p50_ms[FEW], "ms", Target(1.15, at_most=True))


def _waits_in_turn(engines: Sequence[Engine], calls: int) -> list[list[float]]:
    """Milliseconds of each call, `TURN` calls to one engine and then to the next."""
    waits: list[list[float]] = [[] for _ in engines]
    for _ in range(max(1, calls // TURN)):
        for ours, found in zip(engines, waits, strict=True):
            for call in range(TURN):
                began_s = time.perf_counter()
                _reserve(ours, f"sku-{call % shop.SKUS:05}")
                found.append((time.perf_counter() - began_s) * 1000)
    return waits


def _fill(ours: Engine, live: int) -> None:
    shop.open_without_a_ledger(ours)
    shop.stock(ours, shop.PLENTY)
    for at in range(0, live, shop.BATCH):
        ours.scripts.reserve_all([shop.claim(number) for number in range(at, min(live, at + shop.BATCH))])


def _reserve(ours: Engine, sku: str) -> int:
    """With a key, as buyers do. Returns: 1, what it has made."""
    user, key = "user-0001", random_id()
    made_print = fingerprint(sku.encode())
    ours.reservations.reserve(Origin(user, random_id(), user), [Line(sku, 1)], 900, key, made_print)
    return 1


def _rate(way: Callable[[], int], threads: int, seconds: float) -> float:
    """What all threads together make in a second."""
    until_s = time.perf_counter() + seconds

    def work(_: None) -> int:
        return sum(_until(way, until_s))

    began_s = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        made = sum(pool.map(work, repeat(None, threads)))
    return made / (time.perf_counter() - began_s)


def _until(way: Callable[[], int], until_s: float) -> Iterator[int]:
    while time.perf_counter() < until_s:
        yield way()
