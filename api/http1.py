"""HTTP/1.1 on the event loop: one connection, its requests one after another, each whole before anybody works on it.

A client may be slow, lie about where a request ends, or send many at once: it holds up nobody but itself.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections import deque
from collections.abc import Iterable
from email.utils import formatdate
from typing import Any, Protocol
from urllib.parse import quote_from_bytes, unquote_to_bytes

import httptools

SILENCE_SECONDS = 5.0
"""How long a client may send nothing in the midst of a request, or wait before the first byte."""

REQUEST_SECONDS = 20.0
"""How long a client may take to send a whole request; and as long again to take its answer."""

KEEP_ALIVE_SECONDS = 75.0
"""Storefront back ends keep connections open; longer than their usual idle time, shorter than a load balancer's."""

MAX_HEAD_BYTES = 128 * 1024
MAX_CHUNK_BYTES = 8
"""Of what a body in chunks may have around each of its bytes, where every byte is a chunk."""

MAX_FIELDS = 100

MAX_FIELD_BYTES = 8_190
"""Of a header. A request line may be longer: 500 SKUs in one query are."""

MAX_BODY_BYTES = 2 * 1024 * 1024
"""Of a body that is kept. Of a longer one the beginning is: it is refused by its length."""

MAX_DISCARDED_BYTES = 8 * 1024 * 1024
"""Of a body that is read and thrown away so that the client gets the answer; beyond, the connection ends."""

ONLY_ONCE = frozenset(
    {"HTTP_AUTHORIZATION", "HTTP_IDEMPOTENCY_KEY", "HTTP_STOCKADE_SIGNATURE", "HTTP_STOCKADE_USER", "CONTENT_LENGTH"}
)
"""Headers that say who asks and what for. A proxy may have looked at the other of two."""

MAX_COPIED_BYTES = 65_536
"""Of a body that is written in one piece with its head. A larger one waits as it is, however many clients are slow to take it."""

NO_TRAILERS = frozenset(
    {
        *(b"host", b"content-length", b"transfer-encoding", b"trailer", b"te", b"connection", b"upgrade", b"expect"),
        *(b"content-type", b"content-encoding", b"content-range", b"authorization", b"cookie", b"x-request-id"),
        *(b"idempotency-key", b"stockade-user", b"stockade-signature"),
    }
)
"""What says where a request ends, what it is, or who asks."""

VERSIONS = ("1.1", "1.0")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SERVER = "gunicorn"

Environ = dict[str, Any]


class Broken(io.RawIOBase):
    """A body of which nobody can tell where it ends."""

    spoiled = True

    def read(self, size: int = -1) -> bytes:
        raise OSError("The body is not valid HTTP")


class Request:
    """One request, as far as it is there."""

    __slots__ = (
        "arrived_s",
        "body",
        "broken",
        "closes",
        "environ",
        "fields",
        "flaw",
        "head_bytes",
        "length",
        "overhead",
        "url",
    )

    def __init__(self, environ: Environ) -> None:
        self.environ = environ
        self.url = b""
        self.flaw = ""
        self.body: list[bytes] = []
        self.length = self.overhead = self.head_bytes = self.fields = 0
        self.closes = self.broken = False
        self.arrived_s = 0.0


class Server(Protocol):
    """What a connection needs of the worker that has it."""

    alive: bool
    """Whether connections may be kept after their next answer."""

    base: Environ
    """What all requests have in common."""

    def closed(self, connection: Connection) -> None: ...

    def enqueue(self, connection: Connection, request: Request) -> None: ...

    def bad_request(self, detail: str) -> bytes: ...


class Connection(asyncio.Protocol):
    """Attributes without an underscore are for the worker; `until_s` is when it is to be ended."""

    __slots__ = (
        "_began_s",
        "_busy",
        "_ended",
        "_eof",
        "_gone",
        "_in_body",
        "_in_line",
        "_parser",
        "_request",
        "_room",
        "_server",
        "_transport",
        "_waiting",
        "opening",
        "until_s",
    )

    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: Any = None
        self._parser: Any = httptools.HttpRequestParser(self)
        self._request: Request | None = None
        self._waiting: deque[Request] = deque()
        self._busy = self._ended = self._eof = self._gone = self._in_body = self._in_line = False
        self._room = True
        self._began_s = 0.0
        self.until_s = time.monotonic() + SILENCE_SECONDS
        self.opening: Any = None

    # What asyncio calls

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.until_s = time.monotonic() + SILENCE_SECONDS

    def connection_lost(self, error: Exception | None) -> None:
        self._gone = True
        self._waiting.clear()
        self._server.closed(self)

    def eof_received(self) -> bool:
        """A client that sends no more may still wait for answers."""
        self._eof = True
        if self._request is not None and not self._ended:
            self._refuse("The request ends too soon.")
        elif not (self._busy or self._waiting):
            return False
        self._ended = True
        return True

    def pause_writing(self) -> None:
        self._room = False
        self.until_s = time.monotonic() + REQUEST_SECONDS
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._room = True
        self.until_s = time.monotonic() + SILENCE_SECONDS if self._ended else self._idle_until_s()
        if not self._gone:
            self._transport.resume_reading()
            self._next()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        now_s = time.monotonic()
        if self._request is None or self._in_line:
            self._in_line = b"\n" not in data
            if not data.isascii():
                data = _escaped(data)
        request, size = self._request, len(data)
        length = request.length if request is not None else 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Nothing else is spoken here, and what follows is none of ours.
            self._ended = True
        except httptools.HttpParserError:
            self._malformed()
        if self._request is not None:
            if self._request is request:
                request.overhead += size - (request.length - length)
                if request.overhead > MAX_HEAD_BYTES + MAX_CHUNK_BYTES * request.length:
                    request.flaw = "The head is too large."
            request = self._request
            if request.flaw or request.head_bytes > MAX_HEAD_BYTES:
                self._refuse(request.flaw or "The head is too large.")
                return
            if self._began_s == 0.0:
                self._began_s = now_s
            self.until_s = min(now_s + SILENCE_SECONDS, self._began_s + REQUEST_SECONDS)
        elif not self._busy:
            self.until_s = self._idle_until_s()
        if len(self._waiting) > 1:
            self._transport.pause_reading()

    # What the parser calls

    def on_message_begin(self) -> None:
        self._request = Request(self._server.base.copy())
        self._in_body = False
        self._began_s = 0.0

    def on_url(self, url: bytes) -> None:
        request = self._request
        assert request is not None
        request.url += url
        request.head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._request
        assert request is not None
        if self._in_body:
            # Behind a body in chunks. Nobody reads these, and some must not stand there (RFC 9110, 6.5.1).
            request.fields += 1
            request.broken = request.broken or name.lower() in NO_TRAILERS
            return
        size = len(name) + len(value)
        request.head_bytes += size + 4
        request.fields += 1
        if request.fields > MAX_FIELDS or size > MAX_FIELD_BYTES:
            request.flaw = "The head is too large."
        key = KEYS.get(name)
        if key is None:
            key = _key(name)
        if not key:
            return
        text, environ = value.decode("latin-1"), request.environ
        if key in environ:
            if key in ONLY_ONCE:
                request.flaw = f"Duplicate header: {name.decode().title()}."
            text = f"{environ[key]},{text}"
        environ[key] = text

    def on_headers_complete(self) -> None:
        request = self._request
        assert request is not None
        self._in_body = True
        request.fields = 0
        if request.head_bytes > MAX_HEAD_BYTES:
            request.flaw = "The head is too large."
        if self._parser.get_http_version() not in VERSIONS:
            request.flaw = "The request is not valid HTTP."
        if "HTTP_EXPECT" in request.environ:
            if request.environ["HTTP_EXPECT"].lower() != "100-continue":
                request.flaw = "The request is not valid HTTP."
            elif not request.flaw and not self._busy:
                self._transport.write(CONTINUE)
        coding = request.environ.get("HTTP_TRANSFER_ENCODING")
        if coding is not None and coding.lower() != "chunked":
            request.flaw = "The request is not valid HTTP."

    def on_body(self, body: bytes) -> None:
        request = self._request
        assert request is not None
        request.length += len(body)
        if request.length - len(body) <= MAX_BODY_BYTES:
            request.body.append(body)
        elif request.length > MAX_DISCARDED_BYTES:
            request.flaw = "The body is too large."

    def on_message_complete(self) -> None:
        request, self._request = self._request, None
        assert request is not None
        if request.flaw:
            # Ends the parser's work: nothing that follows may be taken for the next request.
            self._request = request
            raise ValueError(request.flaw)
        if request.broken or request.fields > MAX_FIELDS:
            self._broken(request)
            return
        request.closes = not self._parser.should_keep_alive()
        request.environ["wsgi.input"] = io.BytesIO(b"".join(request.body))
        self._take(request)

    # What happens to a request

    def _take(self, request: Request) -> None:
        _complete(request, self._parser)
        self._waiting.append(request)
        self._next()

    def _next(self) -> None:
        """Have the next request worked on, when the one before it is answered and the client has taken enough of that."""
        if self._waiting and not self._busy and self._room:
            self._busy = True
            request = self._waiting.popleft()
            # Before that it waited for those before it on its own connection.
            request.arrived_s = time.monotonic()
            self._server.enqueue(self, request)

    def _malformed(self) -> None:
        """Nobody can tell what follows. A request whose head made sense is answered for that."""
        request, self._request = self._request, None
        if request is not None and self._in_body and not request.flaw:
            self._broken(request)
        else:
            self._refuse(request.flaw if request and request.flaw else "The request is not valid HTTP.")

    def _broken(self, request: Request) -> None:
        request.closes = self._ended = True
        request.environ["wsgi.input"] = Broken()
        self._take(request)

    def _refuse(self, detail: str) -> None:
        """Answer what isn't a request, and end the connection. Where others are still worked on it just ends behind them."""
        self._request, self._ended = None, True
        if self._busy or self._waiting:
            return
        self._transport.write(self._server.bad_request(detail))
        self.end()

    def answer(self, request: Request, status: str, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """Write the answer to the request that was worked on, and go on with the next one."""
        self._busy = False
        if self._gone:
            return
        closes = request.closes or not self._server.alive or (self._ended and not self._waiting)
        lines = ["HTTP/1.1 ", status, "\r\nServer: ", SERVER]
        lines.append("\r\nConnection: close\r\n" if closes else "\r\nConnection: keep-alive\r\n")
        sized = dated = False
        for name, value in headers:
            sized = sized or name == "Content-Length"
            dated = dated or name == "Date"
            lines += (name, ": ", value, "\r\n")
        if not dated:
            lines += ("Date: ", _date(), "\r\n")
        if not sized and status[:3] not in ("204", "304"):
            lines.append(f"Content-Length: {len(body)}\r\n")
        lines.append("\r\n")
        head = "".join(lines).encode("latin-1")
        if request.environ["REQUEST_METHOD"] == "HEAD":
            self._transport.write(head)
        elif len(body) > MAX_COPIED_BYTES:
            self._transport.writelines([head, body])
        else:
            self._transport.write(head + body)
        self._go_on(closes)

    def write_raw(self, request: Request, answer: bytes, *, kept: bool) -> None:
        """Write a whole answer, made elsewhere."""
        self._busy = False
        if not self._gone:
            self._transport.write(answer)
            self._go_on(not kept)

    def keeps(self, request: Request) -> bool:
        """Whether the connection may be kept after this request's answer."""
        return self._server.alive and not request.closes and not self._ended

    def _go_on(self, closes: bool) -> None:
        if closes:
            self.end()
            return
        if self._room:
            self.until_s = self._idle_until_s()
            if len(self._waiting) <= 1:
                # While nothing was read, a request that had begun could not get on.
                self._began_s = 0.0
                self._transport.resume_reading()
            self._next()

    def _idle_until_s(self) -> float:
        return time.monotonic() + (SILENCE_SECONDS if self._request is not None else KEEP_ALIVE_SECONDS)

    def end(self) -> None:
        """Say that nothing more will come, and close when the client has done so.

        Or a client that still sends might lose the answer (RFC 9112, 9.6).
        """
        self._ended = True
        self._waiting.clear()
        if self._room:
            self.until_s = time.monotonic() + SILENCE_SECONDS
        if self._eof:
            self._transport.close()
            return
        try:
            self._transport.write_eof()
            self._transport.resume_reading()
        except (OSError, RuntimeError):
            self._transport.close()

    def time_out(self) -> None:
        """Its time is up: a client in the midst of a request is told, another one just loses the connection."""
        if self._transport is None:
            return
        if self._busy and self._room:
            # It is worked on.
            self.until_s = time.monotonic() + SILENCE_SECONDS
        elif self._request is not None and not self._ended:
            self._refuse("The request did not come in time.")
        elif self._transport.get_write_buffer_size() or self._transport.is_closing():
            # Who doesn't take what is left would keep the connection for ever.
            self._transport.abort()
        else:
            self._transport.close()


def _escaped(data: bytes) -> bytes:
    """A request whose first line has letters as they are, which the parser doesn't take."""
    line, end, rest = data.partition(b"\r\n")
    return data if line.isascii() else quote_from_bytes(line, ASCII).encode() + end + rest


ASCII = bytes(range(128))

KEYS: dict[bytes, str] = {}
"""Names of headers as WSGI has them, by how they were sent. '' for those that nobody gets."""

MAX_KEYS = 1_000


def _key(name: bytes) -> str:
    text = name.decode("latin-1").upper()
    # One could pass for another where - becomes _.
    key = "" if "_" in text else text.replace("-", "_")
    if key and key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        key = f"HTTP_{key}"
    if len(KEYS) < MAX_KEYS:
        KEYS[name] = key
    return key


def _complete(request: Request, parser: Any) -> None:
    environ, url = request.environ, request.url
    path, _, query = url.partition(b"?")
    if not path.startswith(b"/") and b"://" in path:
        rest = path.partition(b"://")[2].partition(b"/")
        path = b"/" + rest[2]
    sent = path.decode("latin-1")
    environ["REQUEST_METHOD"] = parser.get_method().decode()
    environ["RAW_URI"] = url.decode("latin-1")
    environ["QUERY_STRING"] = query.partition(b"#")[0].decode("latin-1")
    environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in sent else sent


_dated: tuple[int, str] = (0, "")


def _date() -> str:
    global _dated
    now_s = int(time.time())
    if _dated[0] != now_s:
        _dated = (now_s, formatdate(now_s, usegmt=True))
    return _dated[1]
