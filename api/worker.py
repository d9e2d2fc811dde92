"""gunicorn's threaded worker, made fit for a rush: even shares, quick refusals, and no promise broken at a reload."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import orjson
from gunicorn import util
from gunicorn.workers.gthread import TConn, ThreadWorker

from api.incoming import REQUEST_ID, is_spoiled
from api.places import ABSENT, Places
from api.problems import RETRY_AFTER_SECONDS, document
from engine.config import from_environment
from engine.ids import random_word

PLACES = Places()
"""Made before gunicorn forks, so that its workers share it."""

PATIENCE_SECONDS = 0.05
"""How long connections are left to the worker with the fewest, if it takes none."""

STAND_BACK_SECONDS = 0.001

SILENCE_SECONDS = 5.0
"""How long a client may send nothing in the midst of a request, and may take to send the first byte, or to close its side."""

REQUEST_SECONDS = 20.0
"""How long a client may take to send a whole request."""

REFUSERS = 2
"""Threads that refuse. They get through many more requests than those that serve."""

ANSWERED_ALWAYS = {"/healthz": "/healthz", "/metrics": "/metrics/counts"}
"""Paths that are answered however busy a worker is, and what is answered there: nothing that waits for Redis.

A balancer that takes out a node for being busy gives its load to the others, and they are next. And who watches must see it.
"""

REFUSAL = orjson.dumps(
    document("store_unavailable", "Too many requests are waiting. Nothing was changed; repeat after Retry-After.", {})
)


class PatientSocket(socket.socket):
    """A client that is silent for too long while its request is read, or takes too long to send it, is as one that is gone."""

    __slots__ = ("_until_s",)

    def setblocking(self, flag: bool) -> None:
        """gunicorn says True when it begins to read a request."""
        self._until_s = time.monotonic() + REQUEST_SECONDS
        self.settimeout(SILENCE_SECONDS if flag else 0.0)

    def recv(self, size: int, flags: int = 0) -> bytes:
        if self.gettimeout():
            self.settimeout(max(0.001, min(SILENCE_SECONDS, self._until_s - time.monotonic())))
        try:
            return super().recv(size, flags)
        except TimeoutError as error:
            # Which gunicorn takes calmly. A time-out it would log with a traceback.
            raise ConnectionResetError(errno.ECONNRESET, "The client is too slow") from error


class Worker(ThreadWorker):  # type: ignore[misc]
    """What is different from gunicorn's own, each with its reason at the method.

    Attributes and methods without an underscore are gunicorn's. Everything but `handle` and what it calls runs in the
    worker's main thread.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.place = PLACES.take()
        self._most_wait_s = from_environment(os.environ).most_wait_ms / 1000
        self._waiting_since_s: deque[float] = deque()
        # It starts its threads with its first tasks, so it may be made before the fork.
        self._refusers = ThreadPoolExecutor(REFUSERS)
        self._left_to_others_s = 0.0
        self._least = 0
        self._stand_back_until_s = 0.0
        self._offered = False
        self._note_wait: Callable[[float], None] | None = None

    def load_wsgi(self) -> None:
        super().load_wsgi()
        # Benchmarks have other apps here.
        self._note_wait = getattr(self.wsgi, "waited", None)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        PLACES.write(self.place, self.nr_conns if self.alive else ABSENT)
        if self._stand_back_until_s:
            timeout = min(timeout, STAND_BACK_SECONDS)
        listened, self._offered = self._accepting, False
        super().wait_for_and_dispatch_events(timeout)
        if listened and not self._offered:
            self._left_to_others_s = 0.0

    def set_accept_enabled(self, enabled: bool) -> None:
        """Called at every turn of the loop: so this is where standing back ends."""
        if enabled and time.monotonic() < self._stand_back_until_s:
            return
        self._stand_back_until_s = 0.0
        super().set_accept_enabled(enabled)

    def accept(self, listener: socket.socket) -> None:
        """Take a connection, unless it belongs to another worker, and wait for its first byte without a thread.

        Whichever worker the kernel runs first would take a whole burst, and keep it for as long as connections live.
        gunicorn gives a new connection a thread at once: a few that say nothing would hold them all.
        """
        if self._others_come_first():
            return
        try:
            accepted, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        client = PatientSocket(fileno=accepted.detach())
        self.nr_conns += 1
        PLACES.write(self.place, self.nr_conns)
        connection = TConn(self.cfg, client, address, listener.getsockname())
        connection.timeout = time.monotonic() + SILENCE_SECONDS
        self._watch(connection, self.pending_conns, self.on_pending_socket_readable)

    def _others_come_first(self) -> bool:
        """Whether to leave the connection that waits to a worker with fewer, which is awake, too. If so, stand back."""
        self._offered = True
        least, now_s = PLACES.least(), time.monotonic()
        if self.nr_conns <= least:
            return False
        if not self._left_to_others_s or least != self._least:
            self._left_to_others_s, self._least = now_s, least
        if now_s - self._left_to_others_s > PATIENCE_SECONDS:
            return False
        self.set_accept_enabled(False)
        self._stand_back_until_s = now_s + STAND_BACK_SECONDS
        return True

    def enqueue_req(self, connection: TConn) -> None:
        """Give a request to a thread: to one that refuses, if those that serve are too far behind."""
        connection.refused = self._behind()
        if not connection.refused:
            self._waiting_since_s.append(time.monotonic())
        pool = self._refusers if connection.refused else self.tpool
        future = pool.submit(self.handle, connection)
        future.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, connection, done))

    def _behind(self) -> bool:
        """Whether the request that waits longest has waited too long: then one that comes now would, too."""
        try:
            return time.monotonic() - self._waiting_since_s[0] > self._most_wait_s
        except IndexError:
            return False

    def handle(self, connection: TConn) -> Any:
        if not connection.refused:
            waited_s = time.monotonic() - self._waiting_since_s.popleft()
            if self._note_wait:
                self._note_wait(waited_s)
        return super().handle(connection)

    def handle_request(self, request: Any, connection: TConn) -> bool:
        if connection.refused:
            if request.path not in ANSWERED_ALWAYS:
                return self._refuse(request, connection)
            request.path = ANSWERED_ALWAYS[request.path]
        kept = bool(super().handle_request(request, connection))
        # What stands in the connection after a body that ends nowhere is no request, whatever it looks like.
        return kept and not is_spoiled(request.body)

    def _refuse(self, request: Any, connection: TConn) -> bool:
        """Answer before anything costs time: no WSGI, no Flask. Returns: whether the connection is kept."""
        began_s = time.perf_counter()
        given = next((value for name, value in request.headers if name == "X-REQUEST-ID"), "")
        request_id = given if REQUEST_ID.fullmatch(given) else random_word()
        kept = self.alive and not request.should_close() and len(self.keepalived_conns) < self.max_keepalived
        # The body first: a client that has its answer may send on, and what is read with the body's end is never seen again.
        # One that waits to be asked for its body won't send it, nor be asked.
        patience_s = time.monotonic() + SILENCE_SECONDS
        kept = kept and not request._expected_100_continue and connection.parser.finish_body(patience_s)
        head = (
            "HTTP/1.1 503 Service Unavailable\r\n"
            "Content-Type: application/problem+json\r\n"
            f"Content-Length: {len(REFUSAL)}\r\n"
            f"Retry-After: {RETRY_AFTER_SECONDS}\r\n"
            f"X-Request-Id: {request_id}\r\n"
            f"Connection: {'keep-alive' if kept else 'close'}\r\n\r\n"
        )
        util.write(connection.sock, head.encode() + (b"" if request.method == "HEAD" else REFUSAL))
        if hasattr(self.wsgi, "refused"):
            self.wsgi.refused(request.method, request_id, began_s)
        return kept

    def finish_request(self, connection: TConn, done: Future[Any]) -> None:
        """Keep the connection, or end it.

        One whose client was told that it's kept is kept by a worker that stops, too: its next request, which may be on
        its way, is its last. gunicorn would close it.
        """
        if not done.cancelled() and not done.exception() and done.result():
            if connection.parser is not None and connection.parser.unreader.buf.tell():
                # The next request has come together with this one, so the poller wouldn't tell.
                self.enqueue_req(connection)
                return
            connection.set_timeout()
            self._watch(connection, self.keepalived_conns, self.on_client_socket_readable)
        else:
            self._end(connection)

    def _end(self, connection: TConn) -> None:
        """Say that nothing more will come, and close when the client has done so.

        A client that still sends might lose the answer otherwise (RFC 9112, 9.6). gunicorn does the same, but lets the
        whole worker wait for it.
        """
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.nr_conns -= 1
            connection.close()
            return
        connection.timeout = time.monotonic() + SILENCE_SECONDS
        self._watch(connection, self.pending_conns, self._discard)

    def _discard(self, connection: TConn, client: socket.socket) -> None:
        """Read what an ended connection still brings. It is closed when its time is over, however much there is."""
        try:
            if client.recv(65_536):
                return
        except OSError:
            pass
        self.poller.unregister(client)
        self.pending_conns.remove(connection)
        self.nr_conns -= 1
        connection.close()

    def _watch(self, connection: TConn, among: deque[TConn], readable: Callable[..., None]) -> None:
        """Call `readable` when there is something to read. `among` is where gunicorn looks for those out of time."""
        connection.sock.setblocking(False)
        among.append(connection)
        self.poller.register(connection.sock, selectors.EVENT_READ, partial(readable, connection))
