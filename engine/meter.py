"""Counts and times what a process does, beside the threads that do it.

Who answers a buyer only leaves a note, which costs less than a microsecond. A thread of the meter's own makes metrics of the
notes a few times a second, and once a second tells Redis what happened here, so that everybody can see the rates of all.
"""

from __future__ import annotations

import atexit
import threading
import time
from bisect import bisect_left
from collections import Counter as Tally
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

from engine.errors import ConfigurationError, EngineError

BEAT_SECONDS = 0.05

MAX_NOTES = 100_000
"""Notes that wait, of each kind. Were the meter ever so far behind, the oldest would be lost."""

MIN_WAIT_SECONDS = 0.001

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

RATES = ("reserve", "refuse", "commit", "release", "expire")
"""What is told to Redis once a second, in the order in which people look at it."""

RATE_OF = {
    ("reserve", "reserved"): "reserve",
    ("commit", "committed"): "commit",
    ("release", "released"): "release",
    ("expire", "expired"): "expire",
}
"""The outcomes of scripts that make a rate. A refusal is counted where a buyer gets it, which is not every time a script refuses."""

WATCHED = (
    *((script, "inconsistent") for script in ("reserve", "expire", "release", "commit")),
    *((script, "wrong_keys") for script in ("expire", "release", "commit")),
    ("commit", "refund_required"),
    ("refund", "refund_required"),
)
"""Outcomes that must never go unseen: Prometheus takes the first number that it sees of a series for where that began, so they begin at 0."""

REGISTRY = CollectorRegistry()
"""Of all metrics that processes count. With PROMETHEUS_MULTIPROC_DIR, which the library itself reads, they are shared by files."""

SCRIPT_SECONDS = Histogram(
    "stockade_script_seconds",
    "Round trips to Redis that ran a script, as the caller waited for them.",
    ["script"],
    buckets=BUCKETS,
    registry=REGISTRY,
)
SCRIPT_OUTCOMES = Counter(
    "stockade_script_outcomes_total",
    "Runs of a script by the first word of its answer; store_unavailable: none came.",
    ["script", "outcome"],
    registry=REGISTRY,
)
WAIT_SECONDS = Histogram(
    "stockade_wait_seconds",
    "Waits of a millisecond or more: for a turn on the loop of a worker, for a loop that is late, for a connection to Postgres.",
    ["pool"],
    buckets=BUCKETS,
    registry=REGISTRY,
)

log = structlog.get_logger()

T = TypeVar("T")


class Meter:
    """One a process. It takes no notes until it is started, so whoever looks once needn't start it.

    `publish` tells Redis how often each of `RATES` happened in the last second; it isn't called where nothing did.
    """

    def __init__(self, publish: Callable[[Mapping[str, int]], None]) -> None:
        self._publish = publish
        self._ran: deque[tuple[str, float, Sequence[str]]] = deque(maxlen=MAX_NOTES)
        self._waited: deque[tuple[str, float]] = deque(maxlen=MAX_NOTES)
        self._refused: deque[int] = deque(maxlen=MAX_NOTES)
        self._rates: Tally[str] = Tally()
        self._second = 0
        self._started = False
        self._turn = threading.Lock()
        self._beats: list[Callable[[], None]] = []

    def start(self, *beats: Callable[[], None]) -> None:
        """Begin. `beats` are done a few times a second, in the meter's thread, and a last time at exit."""
        self._beats += beats
        for labels in WATCHED:
            SCRIPT_OUTCOMES.labels(*labels).inc(0)
        self._started = True
        self._second = int(time.time())
        threading.Thread(target=self._work, name="meter", daemon=True).start()
        atexit.register(self._end)

    def ran(self, script: str, seconds: float, outcomes: Sequence[str]) -> None:
        """Note a round trip, and the outcome of each run in it."""
        if self._started:
            self._ran.append((script, seconds, outcomes))

    def waited(self, pool: str, seconds: float) -> None:
        """Note a wait, if it was one."""
        if self._started and seconds >= MIN_WAIT_SECONDS:
            self._waited.append((pool, seconds))

    def refused(self) -> None:
        """Note that a buyer was told what isn't available."""
        if self._started:
            self._refused.append(1)

    def catch_up(self) -> None:
        """Make metrics of all notes that were taken before this call."""
        with self._turn:
            for beat in self._beats:
                beat()
            self._count()

    def _end(self) -> None:
        self.catch_up()
        self._tell()

    def _work(self) -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            try:
                self.catch_up()
                # Whole seconds by the clock, so that each is told of once, and by all processes at about the same time.
                if self._second != int(time.time()):
                    self._second = int(time.time())
                    self._tell()
            except Exception:
                log.exception("meter_failed")

    def _count(self) -> None:
        outcomes: Tally[tuple[str, str]] = Tally()
        trips, waits = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
        for script, seconds, words in taken(self._ran):
            trips[script].append(seconds)
            for word in words:
                outcomes[script, word] += 1
        for script, times_s in trips.items():
            observe_all(SCRIPT_SECONDS.labels(script), times_s)
        for (script, word), times in outcomes.items():
            SCRIPT_OUTCOMES.labels(script, word).inc(times)
            if rate := RATE_OF.get((script, word)):
                self._rates[rate] += times
        for pool, seconds in taken(self._waited):
            waits[pool].append(seconds)
        for pool, times_s in waits.items():
            observe_all(WAIT_SECONDS.labels(pool), times_s)
        if refused := len(taken(self._refused)):
            self._rates["refuse"] += refused

    def _tell(self) -> None:
        rates, self._rates = self._rates, Tally()
        if rates:
            try:
                self._publish(rates)
            except EngineError:
                # Only for looking at: who can't reach Redis has worse to tell, and does so.
                log.debug("rates_not_told")


def serve(host: str, port: int) -> None:
    """Show Prometheus what this process has counted.

    Raises:
        ConfigurationError: it can't listen there.
    """
    try:
        start_http_server(port, host, REGISTRY)
    except OSError as error:
        raise ConfigurationError(f"Can't listen on {host} port {port}: {error}") from error


def observe_all(histogram: Histogram, seconds: Sequence[float]) -> None:
    """As `observe` for each, at a tenth of what that takes. The library has no such method, so this looks into it."""
    histogram._sum.inc(sum(seconds))
    for bucket, times in Tally(bisect_left(BUCKETS, each) for each in seconds).items():
        histogram._buckets[bucket].inc(times)


def taken(notes: deque[T]) -> list[T]:
    """Take out what is there now; others may go on putting in."""
    return [notes.popleft() for _ in range(len(notes))]


def outcome(reply: Any, failed: str) -> str:
    """The word by which a script's reply is counted; `failed` where there is none."""
    return str(reply[0]) if isinstance(reply, list) else failed
