"""What callers send, and rounds in which each side is called in its turn."""

from __future__ import annotations

import json
import secrets
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from loadtests.bench import cores, shop
from loadtests.bench.caller import Plan, Seen
from loadtests.bench.fronts import Front
from loadtests.bench.report import ROOT, Run, number, table

USERS = 200
CONNECTIONS = 16
"""As many as a worker of ours has threads. Each sends its next request when it has its answer."""

IN_BATCH = 100
WARM_SECONDS = 0.5
TOLERATED = 0.001
"""Share of answers with another status than the one that is wanted, above which a figure means nothing."""


@dataclass(frozen=True)
class Requests:
    """Kinds of requests to send in turn: all that stands before and after what differs with each. See `caller.Plan`."""

    heads: tuple[str, ...]
    tails: tuple[str, ...]


@dataclass(frozen=True)
class Side:
    """One side of a comparison. An answer with the status `wanted` is worth so many `units`. `at_rate`: how many requests are sent a second."""

    name: str
    front: Front
    requests: Requests
    wanted: int = 201
    units: int = 1
    connections: int = CONNECTIONS
    at_rate: float = 0.0


@dataclass
class Measured:
    """A side's rounds. Rates are units a second, `cpu_us` what the server's workers use for one request."""

    rates: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p95_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    caller_us: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def cpu(self) -> float:
        return statistics.median(self.cpu_us)


UNITS = {
    "rates": "/s",
    "p50_ms": "p50 ms",
    "p95_ms": "p95 ms",
    "p99_ms": "p99 ms",
    "cpu_us": "server µs",
    "caller_us": "caller µs",
}


class WrongAnswers(Exception):
    """A side didn't do what it is measured for."""


def reserve(sku: str = shop.HOT, path: str = "/v1/reservations") -> Requests:
    """One unit of a SKU, each time with a new key, from `USERS` buyers with a token each."""
    body = json.dumps({"lines": [{"sku": sku, "quantity": 1}]})
    return posts(path, [(shop.token(f"user-{number:04}", "customer"), body) for number in range(USERS)])


def batch(sku: str = shop.HOT) -> Requests:
    """One unit for each of `IN_BATCH` users, in one call of a trusted back end."""
    one = {"lines": [{"sku": sku, "quantity": 1}]}
    items = [{"user": f"user-{number:04}", **one} for number in range(IN_BATCH)]
    body = json.dumps({"reservations": items})
    return posts("/v1/reservations/batch", [(shop.token("back-end", "storefront"), body)])


def availability(sku: str = shop.HOT) -> Requests:
    """Reads of a SKU's availability, as a product page makes them."""
    head = f"GET /v1/availability?sku={sku} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Number: "
    return Requests((head,), ("\r\n\r\n",))


def availabilities() -> Requests:
    """Reads of as many SKUs as one call may ask for."""
    words = "&".join(f"sku={sku}" for sku in (shop.HOT, *shop.OTHERS))
    return Requests((f"GET /v1/availability?{words} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Number: ",), ("\r\n\r\n",))


def posts(path: str, kinds: Iterable[tuple[str, str]]) -> Requests:
    """Kinds of requests by their tokens and bodies; what comes between head and tail is the idempotency key."""
    heads, tails = [], []
    for token, body in kinds:
        heads.append(
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nAuthorization: Bearer {token}\r\nIdempotency-Key: "
        )
        tails.append(f"\r\n\r\n{body}")
    return Requests(tuple(heads), tuple(tails))


def in_turn(
    run: Run, measurement: str, sides: Sequence[Side], on: Sequence[int] = cores.REST, *, times: int = 1
) -> dict[str, Measured]:
    """Call each side in each round, print the table of their medians, and keep the figures.

    `times` as many rounds are made where sides differ by little.
    """
    found = {side.name: Measured() for side in sides}
    for _ in range(times * run.rounds):
        for side in sides:
            measure(side, run.seconds, on, found[side.name])
    rows = [("", *UNITS.values())]
    for name, measured in found.items():
        medians = [run.note(measurement, name, unit, getattr(measured, column)) for column, unit in UNITS.items()]
        rows.append((name, *map(number, medians)))
    print(f"\n{measurement}: over HTTP, medians of {times * run.rounds}\n{table(rows)}", flush=True)
    return found


def measure(side: Side, seconds: float, on: Sequence[int], into: Measured) -> None:
    """Call a side once."""
    cpu_s = side.front.cpu_s()
    seen = call(side, seconds, on)
    cpu_us = (side.front.cpu_s() - cpu_s) / seen.answers * 1e6
    right = seen.statuses.get(str(side.wanted), 0) / seen.answers
    if right < 1 - TOLERATED:
        raise WrongAnswers(f"{side.name}: {side.wanted} is wanted; the statuses are {seen.statuses}")
    into.rates.append(seen.rate * side.units)
    into.p50_ms.append(seen.p50_ms)
    into.p95_ms.append(seen.p95_ms)
    into.p99_ms.append(seen.p99_ms)
    into.cpu_us.append(cpu_us)
    into.caller_us.append(seen.own_cpu_us)


def call(side: Side, seconds: float, on: Sequence[int]) -> Seen:
    """Run a caller on these cores. Its keys have a mark of their own, so that no call repeats another's."""
    warm_s, mark = min(WARM_SECONDS, seconds), secrets.token_hex(4) + "-"
    heads, tails = [*side.requests.heads], [*side.requests.tails]
    plan = Plan(side.front.port, side.connections, warm_s, seconds, mark, heads, tails, side.at_rate)
    with cores.on(on):
        process = subprocess.run(
            [sys.executable, "-m", "loadtests.bench.caller"],
            input=json.dumps(asdict(plan)),
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            check=True,
        )
    return Seen(**json.loads(process.stdout))
