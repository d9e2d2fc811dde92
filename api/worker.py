"""gunicorn's worker on an event loop: even shares of connections, quick refusals, and no promise broken at a reload.

Each request runs in a greenlet; where it waits for Redis or Postgres the loop goes on with others (`engine.switch`).
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import structlog
import uvloop
from gunicorn.workers.base import Worker as GunicornWorker

from api import problems
from api.http1 import MAX_COPIED_BYTES, Connection, Environ, Request
from api.incoming import REQUEST_ID, is_spoiled
from api.places import ABSENT, Places
from engine.config import from_environment
from engine.ids import random_word

PLACES = Places()
"""Made before gunicorn forks, so that its workers share it."""

PATIENCE_SECONDS = 0.05
"""How long connections are left to the worker with the fewest, if it takes none; then again, when this one has twice as many."""

STAND_BACK_SECONDS = 0.001

SLICE_SECONDS = 0.01
"""How long requests are begun in one turn of the loop, before it looks at sockets again."""

MAX_ACCEPTED = 16
"""Connections taken in one turn, so that others get their share of a burst."""

MAX_NEW_OBJECTS = 10_000
"""Made before garbage is looked for. A large batch makes thousands that live as long as itself; looked through every 700 it costs a quarter more."""

MAX_LARGE = 64
"""Large answers that are kept."""

BEAT_SECONDS = 1.0
LOOKS_AT_STOP_SECONDS = 0.02

WATCHED = ("/healthz", "/readyz", "/metrics")
"""Paths that are answered however busy a worker is, and whatever the others wait for.

A balancer that takes out a node for being busy gives its load to the others, and they are next. And who watches must see it.
"""

TOO_MANY = "Too many requests are waiting. Nothing was changed; repeat after Retry-After."

log = structlog.get_logger()


class Worker(GunicornWorker):  # type: ignore[misc]
    """Attributes and methods of gunicorn's own: `alive`, `cfg`, `sockets`, `wsgi`, `notify`. Everything runs in one thread."""

    alive: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.base: Environ = {}
        self.place = PLACES.take()
        self._most_wait_s = from_environment(os.environ).most_wait_ms / 1000
        self._connections: set[Connection] = set()
        self._ready: deque[tuple[Connection, Request]] = deque()
        self._watching: deque[tuple[Connection, Request]] = deque()
        self._works = self._listens = False
        self._large: dict[str, bytes] = {}
        self._left_to_others_s = 0.0
        self._least = self._spared = 0

    # What gunicorn calls

    def init_process(self) -> None:
        self._loop = uvloop.new_event_loop()
        asyncio.set_event_loop(self._loop)
        # Here, because it must be the module that the app has: see `when_ready` in api/gunicorn_config.py.
        from engine import switch

        self._greenlets = switch.run_on(self._loop)
        super().init_process()

    def run(self) -> None:
        loop = self._loop
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        for number in (signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(number, self._stop_at_once)
        loop.add_signal_handler(signal.SIGABRT, self._abort)
        self.base = _base_environ(self)
        # Benchmarks have other apps here.
        self._note_wait: Callable[[float], None] = getattr(self.wsgi, "waited", lambda seconds: None)
        self._note_lag: Callable[[float], None] = getattr(self.wsgi, "lagged", lambda seconds: None)
        self._behind_s: Callable[[], float] = getattr(self.wsgi, "behind_s", lambda: 0.0)
        PLACES.write(self.place, 0)
        self._beats_at_s = time.monotonic()
        self._listen()
        self._beat()
        if not self.alive:
            return
        # What is loaded now stays.
        gc.collect()
        gc.freeze()
        gc.set_threshold(MAX_NEW_OBJECTS)
        try:
            loop.run_forever()
        finally:
            PLACES.write(self.place, ABSENT)

    # Starting and stopping

    def _listen(self) -> None:
        if self.alive and not self._listens and len(self._connections) < self.cfg.worker_connections:
            self._listens = True
            for listener in self.sockets:
                self._loop.add_reader(listener.sock, self._accept, listener.sock)

    def _stop_listening(self) -> None:
        if self._listens:
            self._listens = False
            for listener in self.sockets:
                self._loop.remove_reader(listener.sock)

    def _beat(self) -> None:
        """Once a second: tell gunicorn that this worker lives, note how late that is, end those whose time is up, follow a parent that is gone."""
        self.notify()
        if self.alive and self.ppid != os.getppid():
            self._stop()
        now_s = time.monotonic()
        self._note_lag(max(0.0, now_s - self._beats_at_s))
        if self.alive:
            self._beats_at_s = now_s + BEAT_SECONDS
            self._loop.call_later(BEAT_SECONDS, self._beat)
        self._end_the_late(now_s)

    def _end_the_late(self, now_s: float) -> None:
        for connection in [each for each in self._connections if each.until_s < now_s]:
            connection.time_out()

    def _stop(self) -> None:
        """Take no more connections. Those that are kept get one more answer, which says that they are closed."""
        if not self.alive:
            return
        self.alive = False
        self._stop_listening()
        PLACES.write(self.place, ABSENT)
        self._stops_at_s = time.monotonic() + self.cfg.graceful_timeout
        self._end_when_done()

    def _end_when_done(self) -> None:
        now_s = time.monotonic()
        self.notify()
        self._end_the_late(now_s)
        if not self._connections or now_s > self._stops_at_s:
            self._loop.stop()
        else:
            self._loop.call_later(LOOKS_AT_STOP_SECONDS, self._end_when_done)

    def _stop_at_once(self) -> None:
        self.alive = False
        self._loop.stop()

    def _abort(self) -> None:
        self.alive = False
        self.cfg.worker_abort(self)
        sys.exit(1)

    # Connections

    def _accept(self, listener: Any) -> None:
        """Take connections, unless they belong to another worker.

        Whichever worker the kernel runs first would take a whole burst, and keep it for as long as connections live.
        """
        for _ in range(MAX_ACCEPTED):
            if self._others_come_first():
                return
            try:
                accepted, _ = listener.accept()
            except OSError:
                self._left_to_others_s = 0.0
                return
            if self._spared:
                # As many as there are already, then the others have their time again: a burst is shared even where they are slow to wake,
                # and a worker that hangs holds up nobody for long.
                self._spared -= 1
                self._left_to_others_s = self._left_to_others_s if self._spared else 0.0
            accepted.setblocking(False)
            connection = Connection(self)
            self._connections.add(connection)
            PLACES.write(self.place, len(self._connections))
            task = self._loop.create_task(self._connect(connection, accepted))
            connection.opening = task
            if len(self._connections) >= self.cfg.worker_connections:
                self._stop_listening()
                return

    async def _connect(self, connection: Connection, accepted: Any) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, accepted)
        except OSError:
            accepted.close()
            self.closed(connection)

    def _others_come_first(self) -> bool:
        """Whether to leave the connection that waits to a worker with fewer, which is awake, too. If so, stand back."""
        least, now_s = PLACES.least(), time.monotonic()
        if len(self._connections) <= least:
            return False
        if not self._left_to_others_s or least != self._least:
            self._left_to_others_s, self._least = now_s, least
        if now_s - self._left_to_others_s > PATIENCE_SECONDS:
            self._spared = self._spared or max(1, len(self._connections))
            return False
        self._stop_listening()
        self._loop.call_later(STAND_BACK_SECONDS, self._listen)
        return True

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self.alive:
            PLACES.write(self.place, len(self._connections))
            self._listen()

    # Requests

    def enqueue(self, connection: Connection, request: Request) -> None:
        """Have a request worked on in its turn; those who watch come first."""
        watches = request.environ["PATH_INFO"] in WATCHED
        (self._watching if watches else self._ready).append((connection, request))
        if not self._works:
            self._works = True
            self._loop.call_soon(self._work)

    def _work(self) -> None:
        """Begin requests in the order in which they came, for a while; then the loop looks at its sockets."""
        self._works = False
        began_s = now_s = time.monotonic()
        while now_s - began_s < SLICE_SECONDS:
            if not (self._watching or self._ready):
                return
            if self._watching:
                self._greenlets.start(self._answer, *self._watching.popleft())
            # Each time, or thousands who watch would keep everybody else waiting.
            if self._ready:
                connection, request = self._ready.popleft()
                waited_s = max(now_s - request.arrived_s, self._behind_s())
                if waited_s > self._most_wait_s:
                    self._refuse(connection, request)
                else:
                    self._note_wait(waited_s)
                    self._greenlets.start(self._answer, connection, request)
            now_s = time.monotonic()
        self._works = True
        self._loop.call_soon(self._work)

    def _answer(self, connection: Connection, request: Request) -> None:
        """In a greenlet of its own."""
        begun: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], error: Any = None) -> None:
            begun[:] = status, headers

        try:
            parts = self.wsgi(request.environ, start_response)
            body = parts[0] if isinstance(parts, list) and len(parts) == 1 else b"".join(parts)
            if hasattr(parts, "close"):
                parts.close()
            request.closes = request.closes or is_spoiled(request.environ["wsgi.input"])
            status, headers = begun
            if len(body) > MAX_COPIED_BYTES:
                body = self._same(request.environ["PATH_INFO"], body)
            connection.answer(request, status, headers, body)
        except Exception as error:
            request_id = random_word()
            log.error("internal_error", request_id=request_id, exc_info=error)
            answer = problems.on_the_wire("internal_error", "", request_id)
            connection.write_raw(request, answer, kept=False)

    def _same(self, path: str, body: bytes) -> bytes:
        """One object for all who are answered the same: thousands may be slow to take the files of the docs page."""
        kept = self._large.get(path)
        if kept == body:
            return kept
        if len(self._large) < MAX_LARGE:
            self._large[path] = body
        return body

    def bad_request(self, detail: str) -> bytes:
        """The answer to what isn't a request yet; its connection is closed."""
        request_id = random_word()
        self._note_refused("-", request_id, time.perf_counter(), 400, "bad_request")
        return problems.on_the_wire("bad_request", detail, request_id)

    def _refuse(self, connection: Connection, request: Request) -> None:
        """Answer before anything costs time: no WSGI, no Flask."""
        began_s, environ = time.perf_counter(), request.environ
        given = environ.get("HTTP_X_REQUEST_ID", "")
        request_id = given if REQUEST_ID.fullmatch(given) else random_word()
        kept = connection.keeps(request)
        answer = problems.on_the_wire(
            "store_unavailable",
            TOO_MANY,
            request_id,
            kept=kept,
            has_body=environ["REQUEST_METHOD"] != "HEAD",
            headers=self._for_browsers(environ),
        )
        self._note_refused(environ["REQUEST_METHOD"], request_id, began_s, 503, "store_unavailable")
        connection.write_raw(request, answer, kept=kept)

    def _for_browsers(self, environ: Environ) -> dict[str, str]:
        """Headers without which a shop's page couldn't see that it was refused."""
        origin = environ.get("HTTP_ORIGIN", "")
        # Benchmarks have other apps here.
        return self.wsgi.cors.of_origin(origin) if origin and hasattr(self.wsgi, "cors") else {}

    def _note_refused(self, *what: Any) -> None:
        # Benchmarks have other apps here.
        if hasattr(self.wsgi, "refused"):
            self.wsgi.refused(*what)


def _base_environ(worker: Worker) -> Environ:
    address = worker.sockets[0].getsockname()
    host, port = address[:2] if isinstance(address, tuple) else ("localhost", 0)
    return {
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": str(host),
        "SERVER_PORT": str(port),
        "SCRIPT_NAME": "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
