"""What a live reservation takes in Redis."""

from __future__ import annotations

from engine.ids import fingerprint, random_id
from engine.values import Line, Origin
from loadtests import servers
from loadtests.bench import shop
from loadtests.bench.report import Run, Target

HOLDS = 100_000


def memory(run: Run) -> None:
    """Make `HOLDS` live one-line reservations, each with an idempotency key, and divide what they take."""
    users = "users as user-000001"
    each = _memory(run, "user-{:06}", users)
    _memory(run, "00000000-0000-4000-8000-{:012}", "users as UUIDs")
    run.compare(
        f"bytes a live hold without the ledger, {users}, {run.kind}", each, None, "bytes", Target(450, at_most=True)
    )


def _memory(run: Run, name: str, shown: str) -> float:
    holds = run.sized(HOLDS)
    with servers.running(run.kind) as url:
        engine = shop.engine_of(url)
        shop.open_without_a_ledger(engine)
        shop.stock(engine, HOLDS)
        redis = engine.store.redis
        run.servers.add(shop.server_name(redis))
        before_bytes = redis.info("memory")["used_memory"]
        for number in range(holds):
            user = name.format(number)
            line = Line(f"sku-{number % shop.SKUS:05}", 1)
            print_of_it = fingerprint(user.encode())
            engine.reservations.reserve(Origin(user, random_id(), user), [line], 900, f"key-{number}", print_of_it)
        grown_bytes = redis.info("memory")["used_memory"] - before_bytes
        ledger_bytes = redis.memory_usage(engine.store.keys.ledger, samples=0)
        each_bytes = run.note("memory", f"a hold, {shown}", "bytes", [(grown_bytes - ledger_bytes) / holds])
        in_ledger_bytes = run.note("memory", f"in the ledger, {shown}", "bytes", [ledger_bytes / holds])
        print(
            f"\n{shop.about(redis)}, {holds:,} live reservations of one line, an idempotency key each, {shown}:\n"
            f"  {each_bytes:6.0f} bytes each, all keys but the ledger\n"
            f"  {in_ledger_bytes:6.0f} bytes each in the ledger",
            flush=True,
        )
    return each_bytes
