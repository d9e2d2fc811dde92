"""How units come back whose time has run out: all at once while buyers ask for them, and evenly by the keeper alone."""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass, field

from engine.engine import Engine
from engine.errors import LinesUnavailable
from engine.replies import Reserved
from engine.values import Line, Origin
from engine.verify import verify
from loadtests import servers
from loadtests.bench import shop
from loadtests.bench.caller import percentile
from loadtests.bench.report import Run, Target

HOLDS = 100_000
SLOW_FROM_MICROSECONDS = 200
STORM_IN_MS = 60_000

DUE_A_SECOND = 1_000
DUE_FOR_SECONDS = 20
DUE_IN_SECONDS = 10
"""Time enough to make the holds before the first one is due."""

PATIENCE_SECONDS = 60


@dataclass
class Shopper:
    """Reserves without a pause while the storm is on, but never more than `units`, so that there is no right refusal."""

    engine: Engine
    units: int
    stop: threading.Event = field(default_factory=threading.Event)
    waits_ms: list[float] = field(default_factory=list)
    refused: int = 0

    def shop(self) -> None:
        for number in range(self.units):
            if self.stop.is_set():
                return
            began_s = time.perf_counter()
            try:
                line = Line(f"sku-{number % shop.SKUS:05}", 1)
                self.engine.reservations.reserve(Origin("shopper", "", "shopper"), [line], 900)
            except LinesUnavailable:
                self.refused += 1
            self.waits_ms.append((time.perf_counter() - began_s) * 1000)


def storm(run: Run) -> None:
    """Sell everything out to holds that fall due in the same second, and watch the units come back."""
    slowlog = ("--slowlog-log-slower-than", str(SLOW_FROM_MICROSECONDS), "--slowlog-max-len", "100000")
    with (
        servers.running(run.kind, *slowlog) as url,
        servers.running_postgres() as database,
        shop.keeper(url, database),
    ):
        engine, holds = shop.engine_of(url, database), run.sized(HOLDS, 10)
        shop.wait_until_open(engine)
        shop.stock(engine, holds)
        redis = engine.store.redis
        due_ms = engine.store.now_ms() + run.sized(STORM_IN_MS, 6)
        for number in range(holds):
            engine.scripts.reserve(shop.claim(number, due_ms - engine.store.now_ms() + number % 1000))
        assert redis.zcount(engine.store.keys.deadlines, due_ms - 1000, due_ms + 2000) == holds
        redis.slowlog_reset()
        # From here on every SKU has a hold that is due, so no refusal is right.
        _sleep_until(engine, due_ms + shop.SKUS)
        shopper = Shopper(shop.engine_of(url, database), holds)
        thread = threading.Thread(target=shopper.shop)
        thread.start()
        last_due_ms = due_ms + 1000
        while redis.zcount(engine.store.keys.deadlines, "-inf", last_due_ms):
            time.sleep(0.01)
        returned_ms = engine.store.now_ms() - due_ms
        shopper.stop.set()
        thread.join()
        slowest = max(
            (entry["duration"] for entry in redis.slowlog_get(100_000) if b"EVALSHA" in entry["command"]), default=0
        )
        report = verify(engine.store, engine.database, engine.settings.retain_ms)
        print(f"\n{shop.about(redis)}, {holds:,} reservations falling due within one second:")
    _say(run, shopper, returned_ms, slowest)
    print(f"  {len(report.problems):6} problems found by verify", flush=True)


def _say(run: Run, shopper: Shopper, returned_ms: int, slowest_us: int) -> None:
    waits = sorted(shopper.waits_ms)
    run.note("storm", "all units back after", "ms", [returned_ms])
    served = run.note("storm", "reserves served meanwhile", "", [len(waits) - shopper.refused])
    refused = run.note("storm", "reserves refused meanwhile", "", [shopper.refused])
    p50_ms = run.note("storm", "wait for a reserve", "p50 ms", [statistics.median(waits)])
    p99_ms = run.note("storm", "wait for a reserve", "p99 ms", [percentile(waits, 99)])
    print(f"  {returned_ms:6} ms from the first deadline until every unit was back (the last was due after 1000)")
    print(f"  {served:6.0f} reserves served meanwhile to one caller, {refused:.0f} refused (must be 0)")
    print(f"  {p50_ms:6.2f} ms to wait for one, p50; {p99_ms:.2f} p99; {waits[-1]:.2f} at most")
    print(f"  {_milliseconds(slowest_us)} ms took the slowest script call")
    run.compare("storm: reserves refused though stock was due", refused, None, "calls", Target(0, at_most=True))


def returns(run: Run) -> None:
    """Let holds fall due evenly while nobody reserves, so that only the keeper ends them, writing the ledger beside that."""
    seconds = 2 if run.quick else DUE_FOR_SECONDS
    with (
        servers.running(run.kind, *shop.EVERY_SECOND) as url,
        servers.running_postgres(careful=True) as database,
        shop.keeper(url, database),
    ):
        engine = shop.engine_of(url, database)
        shop.wait_until_open(engine)
        shop.stock(engine, shop.PLENTY)
        due_s = 2 if run.quick else DUE_IN_SECONDS
        deadlines = _fall_due(engine, due_s * 1000, seconds * DUE_A_SECOND)
        returned = _returned(engine, len(deadlines))
        late = sorted(at_ms - deadlines[reservation_id] for reservation_id, at_ms in returned.items())
        about = shop.about(engine.store.redis)
    assert late[0] >= 0, "a hold was ended before its time"
    p50_ms, p99_ms = statistics.median(late), percentile([float(each) for each in late], 99)
    run.note("returns", "from the deadline to the return", "p50 ms", [p50_ms])
    run.note("returns", "from the deadline to the return", "p99 ms", [p99_ms])
    print(f"\n{about}, {len(late):,} reservations falling due, {DUE_A_SECOND:,} a second, and only the keeper at work:")
    print(f"  {p50_ms:6.0f} ms from a deadline to the return of its units, p50; {p99_ms:.0f} p99; {late[-1]} at most")
    run.compare("return by the keeper alone, p99", p99_ms, None, "ms", Target(500, at_most=True))


def _fall_due(engine: Engine, in_ms: int, holds: int) -> dict[str, int]:
    """Make holds, the first of which is due `in_ms` from now and the others one by one. Returns: their deadlines."""
    first_due_ms, deadlines = engine.store.now_ms() + in_ms, {}
    each_ms = 1000 / DUE_A_SECOND
    for at in range(0, holds, shop.BATCH):
        now_ms = engine.store.now_ms()
        numbers = range(at, min(holds, at + shop.BATCH))
        claims = [shop.claim(number, round(first_due_ms - now_ms + number * each_ms)) for number in numbers]
        for claim, reply in zip(claims, engine.scripts.reserve_all(claims), strict=True):
            assert isinstance(reply, Reserved)
            deadlines[claim.id] = reply.deadline_ms
    return deadlines


def _returned(engine: Engine, holds: int) -> dict[str, int]:
    """When each of so many holds was ended, read from the stream while the keeper goes on trimming it behind us."""
    found: dict[str, int] = {}
    after, give_up_s = "-", time.monotonic() + PATIENCE_SECONDS
    while len(found) < holds:
        if time.monotonic() > give_up_s:
            raise TimeoutError(f"the keeper has ended {len(found)} of {holds} holds")
        events = engine.store.events(after, 10_000)
        found |= {event.reservation_id: event.at_ms for event in events if event.op == "expire"}
        if events:
            after = f"{events[-1].epoch}-{events[-1].seq}"
        time.sleep(0.05)
    return found


def _milliseconds(microseconds: int) -> str:
    if not microseconds:
        return f"  less than {SLOW_FROM_MICROSECONDS / 1000}"
    return f"{microseconds / 1000:6.2f}"


def _sleep_until(engine: Engine, when_ms: int) -> None:
    time.sleep(max(0, when_ms - engine.store.now_ms()) / 1000)
