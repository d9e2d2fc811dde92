"""The service over HTTP, beside what else could stand in its place. One worker on a core of its own, unless said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from loadtests import servers
from loadtests.bench import calls, cores, fronts, rival_postgres, scripts, shop
from loadtests.bench.calls import Side
from loadtests.bench.report import Run, Target, number

SERVICE = "api.wsgi:app()"
HELLO = "loadtests.bench.trivial:hello()"
FASTAPI = "loadtests.bench.rival_fastapi:app"
BRIDGE = "loadtests.bench.asgi_bridge:app"
POSTGRES = "loadtests.bench.rival_postgres:app()"
NOWHERE = "unix:///nowhere"
"""For apps that need no Redis, but whose settings ask for one."""

THREADS = (4, 16, 32)
"""Of the service on Postgres, with a connection each."""

COMMITS = {"on": "postgres, {} connections", "off": "postgres, {}, no synchronous_commit"}


@contextmanager
def service(run: Run) -> Iterator[fronts.Front]:
    """The service itself, selling from a Redis of its own."""
    with shop.on_sale(run.kind) as url:
        run.servers.add(shop.server_name(shop.engine_of(url).store.redis))
        with fronts.flask(SERVICE, shop.environment(url)) as front:
            yield front


def http(run: Run) -> None:
    """Reserve, refuse, read and reserve in batches, beside a Flask hello on gunicorn's own threads."""
    with service(run) as ours, ExitStack() as stack:
        hellos = [
            Side(
                f"flask hello, {threads} threads",
                stack.enter_context(fronts.gthread(HELLO, {}, threads=threads)),
                calls.reserve(),
            )
            for threads in THREADS
        ]
        sides = [
            *hellos,
            Side("reserve", ours, calls.reserve()),
            Side("batch of 100, 4 connections", ours, calls.batch(), 200, calls.IN_BATCH, connections=4),
            Side("refusal, sold out", ours, calls.reserve(shop.SOLD_OUT), 409),
            Side("availability", ours, calls.availability(), 200),
            Side(f"availability of {shop.MANY}", ours, calls.availabilities(), 200),
        ]
        found = calls.in_turn(run, "http", sides)
    *rates, reserve, batch, refusal, availability, _ = (each.rate for each in found.values())
    hello = max(rates)
    run.compare("HTTP reserve / Flask hello, best", reserve, hello, "/s", Target(1.8))
    run.compare("HTTP refusal, sold out / Flask hello, best", refusal, hello, "/s", Target(1.8))
    run.compare("HTTP availability / Flask hello, best", availability, hello, "/s", Target(3.0))
    run.compare("HTTP batch of 100 / single calls", batch, reserve, "/s")
    run.compare(
        "processor time of a worker for a reservation", found["reserve"].cpu, None, "µs", Target(110, at_most=True)
    )


def batch(run: Run) -> None:
    """Reserve in batches of 100 over HTTP, beside the script alone, pipelined, on a Redis with the same settings."""
    calls_alone = run.sized(scripts.CALLS, 10)
    with service(run) as ours, cores.starting_on(cores.SERVICE, servers.running(run.kind, *shop.EVERY_SECOND)) as url:
        engine, measured, alone = shop.engine_of(url), calls.Measured(), list[float]()
        side = Side("batch of 100", ours, calls.batch(), 200, calls.IN_BATCH, connections=8)
        for _ in range(run.rounds):
            calls.measure(side, run.seconds, cores.REST, measured)
            alone.append(scripts.reserve(engine, url, calls_alone))
    over_http = run.note("batch", "over HTTP", "/s", measured.rates)
    worker_us = run.note(
        "batch", "processor time of a worker", "µs", [each / calls.IN_BATCH for each in measured.cpu_us]
    )
    print(f"\nbatch: {number(worker_us)} µs of a worker for a reservation, medians of {run.rounds}", flush=True)
    pipelined = run.note("batch", "script alone", "/s", alone)
    run.compare("HTTP batch of 100 / the script alone, pipelined", over_http, pipelined, "/s", Target(0.6))


def servers_of_http(run: Run) -> None:
    """One and the same service behind our worker, uvicorn, gunicorn's ASGI worker and gunicorn's threads."""
    with shop.on_sale(run.kind) as url, ExitStack() as stack:
        given = shop.environment(url)
        beside = {
            "our worker": fronts.flask(SERVICE, given),
            "uvicorn": fronts.uvicorn(BRIDGE, given),
            "gunicorn's ASGI worker": fronts.gunicorn_asgi(BRIDGE, given),
            "gunicorn's threads, 16": fronts.gthread(SERVICE, given, threads=16),
        }
        sides = [Side(name, stack.enter_context(front), calls.reserve()) for name, front in beside.items()]
        found = calls.in_turn(run, "servers", sides)
    ours, *others = (each.rate for each in found.values())
    run.compare("reserve behind our worker / behind the best other", ours, max(others), "/s", Target(1.2))


def fastapi(run: Run) -> None:
    """Reserve, beside the same script behind FastAPI, bare of tokens and keys."""
    with (
        service(run) as ours,
        shop.on_sale(run.kind) as url,
        fronts.uvicorn(FASTAPI, shop.environment(url)) as theirs,
    ):
        sides = [Side("fastapi, bare", theirs, calls.reserve()), Side("reserve", ours, calls.reserve())]
        found = calls.in_turn(run, "fastapi", sides)
    rival, reserve = (each.rate for each in found.values())
    run.compare("HTTP reserve / bare FastAPI", reserve, rival, "/s", Target(1.6))


def postgres(run: Run) -> None:
    """Reserve one hot SKU, beside the same front on a Postgres with row locks."""
    with ExitStack() as stack:
        sides = [Side("reserve", stack.enter_context(service(run)), calls.reserve())]
        for commit, name in COMMITS.items():
            # A server each, because all of them together have more connections than one takes.
            url = stack.enter_context(cores.starting_on(cores.REST, servers.running_postgres(careful=True)))
            run.servers.add(rival_postgres.prepare(url, shop.HOT, shop.PLENTY))
            database_url = rival_postgres.with_commit(url, commit)
            for threads in THREADS:
                given = shop.environment(NOWHERE, database_url)
                front = stack.enter_context(fronts.gthread(POSTGRES, given, threads=threads))
                connections = max(threads, calls.CONNECTIONS)
                sides.append(Side(name.format(threads), front, calls.reserve(), connections=connections))
        found = calls.in_turn(run, "postgres", sides)
    reserve, *rivals = (each.rate for each in found.values())
    run.compare("HTTP reserve / Postgres row locks, best", reserve, max(rivals[: len(THREADS)]), "/s", Target(3))
    run.compare("HTTP reserve / the same without synchronous_commit", reserve, max(rivals[len(THREADS) :]), "/s")


def whole(run: Run) -> None:
    """As in production, nothing pinned: two workers, keeper, Redis, Postgres, and the callers on all cores."""
    with (
        servers.running(run.kind, *shop.EVERY_SECOND) as url,
        servers.running_postgres(careful=True) as ledger_url,
        servers.running_postgres(careful=True) as rows_url,
        shop.keeper(url, ledger_url),
    ):
        engine, given = shop.engine_of(url, ledger_url), shop.environment(url, ledger_url)
        shop.wait_until_open(engine)
        shop.stock_the_sale(engine)
        rival_postgres.prepare(rows_url, shop.HOT, shop.PLENTY)
        with (
            fronts.flask(SERVICE, given, workers=2, on=cores.ALL) as ours,
            fronts.gthread(HELLO, {}, threads=4, workers=2, on=cores.ALL) as hello,
            fronts.gthread(POSTGRES, shop.environment(NOWHERE, rows_url), threads=16, workers=2, on=cores.ALL) as rows,
        ):
            sides = [
                Side(name, front, calls.reserve(), connections=2 * calls.CONNECTIONS)
                for name, front in {"flask hello": hello, "reserve": ours, "postgres": rows}.items()
            ]
            found = calls.in_turn(run, "whole", sides, cores.ALL)
    least, reserve, rival = (each.rate for each in found.values())
    run.compare("whole system, reserve / Flask hello", reserve, least, "/s", Target(0.9))
    run.compare("whole system, reserve / Postgres row locks", reserve, rival, "/s")
