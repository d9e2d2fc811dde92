"""One line in the log and one count in the metrics for every request, made beside the threads that answer."""

from __future__ import annotations

import atexit
import os
import select
import threading
import time
from collections import Counter as Tally
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from queue import Full, Queue
from typing import Any, NamedTuple

import orjson
from prometheus_client import Counter, Histogram

from engine.ids import known_as
from engine.meter import BUCKETS, MAX_NOTES, REGISTRY, observe_all, taken

STDERR = 2

MAX_WRITTEN_BYTES = 4_096
"""At a time: so much a pipe takes in one piece, so that the lines of several processes don't mix."""

REQUESTS = Counter(
    "stockade_requests_total",
    "Requests by route and outcome: ok, or the code of the problem.",
    ["method", "route", "code"],
    registry=REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "stockade_request_seconds",
    "From the first look at a request to its answer.",
    ["method", "route"],
    buckets=BUCKETS,
    registry=REGISTRY,
)

LINES_LOST = Counter(
    "stockade_log_lines_lost_total",
    "Lines of the request log that nobody took: whoever reads the log was too slow, or is gone.",
    registry=REGISTRY,
)

MAX_PARCELS = 1_000
"""Parcels of lines that wait to be written, one a beat of the meter. What comes then is lost, rather than a buyer kept waiting."""

LAST_WORDS_SECONDS = 1.0

METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH")


class Finished(NamedTuple):
    """A request that was answered. `route` is the path as it was declared: what is in it may be a guest's only secret."""

    at_s: float
    method: str
    route: str
    status: int
    code: str
    microseconds: int
    request_id: str
    user: str
    reservation_id: str


class Journal:
    """`secret` makes the users in the log unrecognisable to those who don't have it. `logs`: whether lines are written."""

    def __init__(self, secret: bytes, logs: bool) -> None:
        self._finished: deque[Finished] = deque(maxlen=MAX_NOTES)
        self._parcels: Queue[list[Finished]] = Queue(MAX_PARCELS)
        self._logs = logs
        self._known_as = lru_cache(10_000)(lambda user: known_as(secret, user))

    def start(self) -> None:
        """Begin to write, in a thread of its own: a terminal or a pipe that nobody reads holds up nothing else."""
        threading.Thread(target=self._work, name="journal", daemon=True).start()
        atexit.register(self._end)

    def note(self, finished: Finished) -> None:
        self._finished.append(finished)

    def catch_up(self) -> None:
        """Count the requests that were noted before this call, and have their lines written."""
        requests = taken(self._finished)
        codes: Tally[tuple[str, str, str]] = Tally()
        times = defaultdict[tuple[str, str], list[float]](list)
        for request in requests:
            method = request.method if request.method in METHODS else "other"
            times[method, request.route].append(request.microseconds / 1e6)
            codes[method, request.route, request.code] += 1
        for where, seconds in times.items():
            observe_all(REQUEST_SECONDS.labels(*where), seconds)
        for labels, count in codes.items():
            REQUESTS.labels(*labels).inc(count)
        if requests and self._logs:
            try:
                self._parcels.put_nowait(requests)
            except Full:
                LINES_LOST.inc(len(requests))

    def write(self) -> None:
        """Write the lines of one parcel; waits for one."""
        requests = self._parcels.get()
        try:
            write(self._line(request) for request in requests)
        except OSError:
            LINES_LOST.inc(len(requests))
        finally:
            self._parcels.task_done()

    def _work(self) -> None:
        while True:
            self.write()

    def _end(self) -> None:
        give_up_s = time.monotonic() + LAST_WORDS_SECONDS
        while self._parcels.unfinished_tasks and time.monotonic() < give_up_s:
            time.sleep(0.01)

    def _line(self, request: Finished) -> bytes:
        document: dict[str, Any] = {
            "event": "request",
            "request_id": request.request_id,
            "user": self._known_as(request.user) if request.user else "",
            "reservation_id": request.reservation_id,
            "method": request.method,
            "route": request.route,
            "status": request.status,
            "code": request.code,
            "microseconds": request.microseconds,
            "level": "info",
            "timestamp": _time(request.at_s),
        }
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def write(lines: Iterable[bytes]) -> None:
    """Write whole lines on stderr, in as few pieces as go through a pipe undivided. Raises OSError: nobody takes them."""
    for piece in pieces(lines):
        left = memoryview(piece)
        while left:
            try:
                left = left[os.write(STDERR, left) :]
            except BlockingIOError:
                select.select([], [STDERR], [])


def pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines put together as long as they fit into `MAX_WRITTEN_BYTES`."""
    piece = b""
    for line in lines:
        if len(piece) + len(line) > MAX_WRITTEN_BYTES and piece:
            yield piece
            piece = b""
        piece += line
    if piece:
        yield piece


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def finished(environ: dict[str, Any], status: int, code: str, request_id: str, began_s: float) -> Finished:
    """What is known of a request at its end. The route has left its words in `environ`."""
    return Finished(
        time.time(),
        environ["REQUEST_METHOD"],
        environ.get("stockade.route", "-"),
        status,
        code,
        round((time.perf_counter() - began_s) * 1e6),
        request_id,
        environ.get("stockade.user", ""),
        environ.get("stockade.reservation_id", ""),
    )
