"""gunicorn's threaded worker, made fit for a rush: even shares, quick refusals, and no promise broken at a reload."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from gunicorn import util
from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker

from api import problems
from api.gathering import RECEIVED_BYTES, SILENCE_SECONDS, Coming, PatientSocket
from api.incoming import REQUEST_ID, is_spoiled
from api.places import ABSENT, Places
from engine.config import from_environment
from engine.ids import random_word

PLACES = Places()
"""Made before gunicorn forks, so that its workers share it."""

PATIENCE_SECONDS = 0.05
"""How long connections are left to the worker with the fewest, if it takes none."""

STAND_BACK_SECONDS = 0.001

PATIENT = 4
"""Threads for requests that can't be gathered: in chunks, very large, or with an answer that is. Their clients may be slow."""

WATCHERS = 2
"""Threads for those who watch. Nothing there waits for longer than a second."""

REFUSERS = 2
"""Threads that refuse. They get through many more requests than those that serve."""

TOO_MANY = "Too many requests are waiting. Nothing was changed; repeat after Retry-After."

Ready = Callable[[TConn, socket.socket], None]
log = structlog.get_logger()


class Worker(ThreadWorker):  # type: ignore[misc]
    """What is different from gunicorn's own, each with its reason at the method.

    Attributes and methods without an underscore are gunicorn's. Everything but `handle` and what it calls runs in the
    worker's main thread.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.place = PLACES.take()
        self._most_wait_s = from_environment(os.environ).most_wait_ms / 1000
        self._waiting_since_s: dict[bool, deque[float]] = {False: deque(), True: deque()}
        # They start their threads with their first tasks, so they may be made before the fork.
        self._refusers = ThreadPoolExecutor(REFUSERS)
        self._patient = ThreadPoolExecutor(PATIENT)
        self._watchers = ThreadPoolExecutor(WATCHERS)
        self._gathering: set[TConn] = set()
        self._looked_s = 0.0
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
        self._end_the_slow()
        if listened and not self._offered:
            self._left_to_others_s = 0.0

    def set_accept_enabled(self, enabled: bool) -> None:
        """Called at every turn of the loop: so this is where standing back ends."""
        if enabled and time.monotonic() < self._stand_back_until_s:
            return
        self._stand_back_until_s = 0.0
        super().set_accept_enabled(enabled)

    def accept(self, listener: socket.socket) -> None:
        """Take a connection, unless it belongs to another worker, and wait for its request without a thread.

        Whichever worker the kernel runs first would take a whole burst, and keep it for as long as connections live.
        gunicorn gives a new connection a thread at once: a few that are slow would hold them all.
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
        connection.coming = Coming()
        self._watch(connection, self.pending_conns, self._gather)

    def _gather(self, connection: TConn, client: socket.socket) -> None:
        """Take what has come of a request. A thread gets it when it's whole."""
        try:
            data = client.recv(RECEIVED_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data and not connection.coming.add(data):
            if connection.among is not self._gathering:
                connection.among.remove(connection)
                connection.among = self._gathering
                self._gathering.add(connection)
            return
        self._unwatch(connection)
        if data:
            self.enqueue_req(connection)
        else:
            self.nr_conns -= 1
            connection.close()

    def _end_the_slow(self) -> None:
        """Once a second, cut off those who take too long to send a request. Others' places are worth more."""
        now_s = time.monotonic()
        if now_s - self._looked_s < 1:
            return
        self._looked_s = now_s
        for connection in [each for each in self._gathering if each.coming.is_too_slow(now_s)]:
            self._unwatch(connection)
            with suppress(OSError):
                connection.sock.send(self._bad_request("The request did not come in time."))
            self._end(connection)

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
        """Give a request to a thread: to one that refuses, if those that serve are too far behind.

        Not while its client hasn't taken earlier answers: the thread would wait for it.
        """
        if not connection.sock.has_room():
            connection.timeout = time.monotonic() + SILENCE_SECONDS
            self._watch(connection, self.pending_conns, self._go_on, selectors.EVENT_WRITE)
            return
        connection.init()
        connection.parser.unreader.unread(connection.coming.data)
        streams, watches = connection.coming.streams, connection.coming.watches
        connection.refused = not watches and self._behind(streams)
        if not connection.refused and not watches:
            self._waiting_since_s[streams].append(time.monotonic())
        pool = self._refusers if connection.refused else self._patient if streams else self.tpool
        future = (self._watchers if watches else pool).submit(self.handle, connection)
        future.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, connection, done))

    def _go_on(self, connection: TConn, _client: socket.socket) -> None:
        self._unwatch(connection)
        self.enqueue_req(connection)

    def _behind(self, streams: bool) -> bool:
        """Whether the request that waits longest has waited too long: then one that comes now would, too."""
        try:
            return time.monotonic() - self._waiting_since_s[streams][0] > self._most_wait_s
        except IndexError:
            return False

    def handle(self, connection: TConn) -> Any:
        if not connection.refused and not connection.coming.watches:
            waited_s = time.monotonic() - self._waiting_since_s[connection.coming.streams].popleft()
            if self._note_wait:
                self._note_wait(waited_s)
        if connection.coming.flaw:
            util.write(connection.sock, self._bad_request(connection.coming.flaw))
            return False
        return super().handle(connection)

    def handle_error(self, request: Any, client: socket.socket, address: Any, error: Exception) -> None:
        """Answer what is no HTTP as any other problem. gunicorn would send a page, and log what the client wrote."""
        if isinstance(error, ParseException):
            answer = self._bad_request("The request is not valid HTTP.")
        else:
            request_id = random_word()
            log.error("internal_error", request_id=request_id, exc_info=error)
            answer = problems.on_the_wire("internal_error", "", request_id)
        with suppress(OSError):
            util.write(client, answer)

    def _bad_request(self, detail: str) -> bytes:
        """The answer to what isn't a request yet; its connection is closed."""
        request_id = random_word()
        self._note_refused("-", request_id, time.perf_counter(), 400, "bad_request")
        return problems.on_the_wire("bad_request", detail, request_id)

    def handle_request(self, request: Any, connection: TConn) -> bool:
        if connection.refused:
            return self._refuse(request, connection)
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
        # What isn't there yet isn't waited for: a few slow clients would keep all who refuse.
        kept = kept and not connection.coming.streams and connection.parser.finish_body()
        answer = problems.on_the_wire(
            "store_unavailable",
            TOO_MANY,
            request_id,
            kept=kept,
            has_body=request.method != "HEAD",
            headers=self._for_browsers(request),
        )
        self._note_refused(request.method, request_id, began_s, 503, "store_unavailable")
        util.write(connection.sock, answer)
        return kept

    def _for_browsers(self, request: Any) -> dict[str, str]:
        """Headers without which a shop's page couldn't see that it was refused."""
        origin = next((value for name, value in request.headers if name == "ORIGIN"), "")
        # Benchmarks have other apps here.
        return self.wsgi.cors.of_origin(origin) if origin and hasattr(self.wsgi, "cors") else {}

    def _note_refused(self, *what: Any) -> None:
        # Benchmarks have other apps here.
        if hasattr(self.wsgi, "refused"):
            self.wsgi.refused(*what)

    def finish_request(self, connection: TConn, done: Future[Any]) -> None:
        """Keep the connection, or end it.

        One whose client was told that it's kept is kept by a worker that stops, too: its next request, which may be on
        its way, is its last. gunicorn would close it.
        """
        if not done.cancelled() and not done.exception() and done.result():
            connection.coming = Coming()
            # What has come of the next request together with this one the poller wouldn't tell.
            if (more := connection.parser.unreader.take_buffered()) and connection.coming.add(more):
                self.enqueue_req(connection)
                return
            connection.set_timeout()
            self._watch(connection, self._gathering if more else self.keepalived_conns, self._gather)
        else:
            self._end(connection)

    def _end(self, connection: TConn) -> None:
        """Say that nothing more will come, and close when the client has done so.

        Or a client that still sends might lose the answer (RFC 9112, 9.6). gunicorn lets the whole worker wait for it.
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
            if client.recv(RECEIVED_BYTES):
                return
        except OSError:
            pass
        self._unwatch(connection)
        self.nr_conns -= 1
        connection.close()

    def _watch(
        self, connection: TConn, among: deque[TConn] | set[TConn], ready: Ready, event: int = selectors.EVENT_READ
    ) -> None:
        """Call `ready` at the event. `among` is where those out of time are looked for."""
        connection.sock.setblocking(False)
        connection.among = among
        (among.add if isinstance(among, set) else among.append)(connection)
        self.poller.register(connection.sock, event, partial(ready, connection))

    def _unwatch(self, connection: TConn) -> None:
        self.poller.unregister(connection.sock)
        connection.among.remove(connection)
