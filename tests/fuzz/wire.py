"""Requests that aren't quite HTTP: what a broken client, a clever one, or a proxy that reads differently would send."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from tests.fuzz import documents, games

END = b"\r\n"


@dataclass(frozen=True)
class Case:
    """Bytes to send on a connection. `most_answers` there may be: one more, and a request was smuggled in.

    `forbidden`: its sender has no token, so it may get nothing. `open_end`: the sender waits without closing its side.
    """

    about: str
    data: bytes
    most_answers: int = 1
    methods: tuple[str, ...] = ()
    forbidden: bool = False
    open_end: bool = False


class Wire:
    """Makes cases. `tokens` by scope; `things` are the ids for the words in paths."""

    def __init__(self, pick: Random, tokens: Mapping[str, str], things: Mapping[str, str]) -> None:
        self._pick = pick
        self._tokens = tokens
        self._things = things
        self._ways: list[Callable[[], Case]] = [
            *(self._document, self._document, self._framing, self._chunks, self._line, self._headers),
            *(self._path, self._method, self._mutated, self._together, self._cut_short),
        ]

    def case(self) -> Case:
        return self._pick.choice(self._ways)()

    def _head(self, method: str, path: str, scope: str = "ops", more: bytes = b"") -> bytes:
        token = f"Authorization: Bearer {self._tokens[scope]}\r\n" if scope else ""
        request_id = f"X-Request-Id: f{self._pick.getrandbits(96):024x}\r\n"
        return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{token}{request_id}".encode("utf-8", "surrogateescape") + more

    def _document(self) -> Case:
        method, path, headers, body = documents.made(self._pick)
        scope = self._pick.choice(("everything", "ops", "customer", ""))
        given = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
        head = self._head(method, path.format(**self._things), scope, given)
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        return Case(f"document {method} {path}", head + length + body)

    def _framing(self) -> Case:
        """What comes behind a body of doubtful length mustn't be a request."""
        body = b"0\r\n\r\n" + self._head("GET", "/v1/skus") + END
        framing = self._pick.choice(games.FRAMINGS).replace(b"{n}", str(len(body)).encode())
        head = self._head("POST", "/v1/carts", "", b"Content-Type: application/json\r\n" + framing + END)
        return Case("framing", head + END + body)

    def _chunks(self) -> Case:
        chunks = self._pick.choice(games.SOUND_CHUNKS + games.UNSOUND_CHUNKS)
        head = self._head("POST", "/v1/reservations", "customer", b"Content-Type: application/json\r\n")
        data = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + self._head("GET", "/v1/skus") + END
        return Case("chunks", data, most_answers=2 if chunks in games.SOUND_CHUNKS else 1)

    def _line(self) -> Case:
        return Case("line", self._pick.choice(games.LINES) + b"\r\nHost: x\r\n\r\n", most_answers=2)

    def _headers(self) -> Case:
        twice = f"Authorization: Bearer {self._tokens['everything']}".encode()
        game = self._pick.choice([*games.HEADERS, twice])
        path = self._pick.choice(
            ("/healthz", "/v1/skus", "/v1/availability?sku=fuzz", "/console", "/docs/", "/metrics")
        )
        scope = self._pick.choice(("ops", "customer", ""))
        return Case("headers", self._head("GET", path, scope, game + END) + END)

    def _path(self) -> Case:
        """Other ways to write a path that needs a token. Without one nothing may come back, however it's written."""
        words = self._pick.choice(games.GUARDED).format(**self._things).strip("/").split("/")
        written = [
            self._pick.choice((word, word, word.upper(), _in_hex(word), f"{word}%20", f"{word};a")) for word in words
        ]
        start, slash, end = (self._pick.choice(of) for of in (games.STARTS, games.SLASHES, games.ENDS))
        return Case("path", self._head("GET", start + slash.join(written) + end, "") + END, forbidden=True)

    def _method(self) -> Case:
        method, path = self._pick.choice(games.METHODS), self._pick.choice(games.ANYWHERE)
        head = self._head(method, path.format(**self._things), self._pick.choice(("", "customer")))
        return Case(f"method {method}", head + END, methods=(method,))

    def _mutated(self) -> Case:
        """A good request with some bytes changed, doubled or taken out."""
        method, path, headers, body = documents.made(self._pick)
        given = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
        head = self._head(method, path.format(**self._things), "everything", given)
        data = bytearray(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        for _ in range(self._pick.randrange(1, 6)):
            at = self._pick.randrange(min(len(data), 900))
            way = self._pick.randrange(3)
            if way == 0:
                data[at] = self._pick.randrange(256)
            elif way == 1:
                del data[at : at + self._pick.randrange(1, 9)]
            else:
                data[at:at] = self._pick.choice((b"\r\n", b"\n", b"\0", b" ", b":", b"\xff", bytes(data[at : at + 40])))
        return Case("mutated", bytes(data), most_answers=9, methods=(data.partition(b" ")[0].decode("latin-1"),))

    def _together(self) -> Case:
        """Many requests at once, some with bodies that nobody reads."""
        many, data, methods = self._pick.randrange(2, 20), b"", []
        for _ in range(many):
            method = self._pick.choice(("GET", "POST", "HEAD"))
            body = b"x" * self._pick.choice((0, 1, 5_000)) if method == "POST" else b""
            path = self._pick.choice(("/healthz", "/v1/skus", "/v1/carts", "/nowhere"))
            data += self._head(method, path, "customer") + b"Content-Length: %d\r\n\r\n" % len(body) + body
            methods.append(method)
        return Case("together", data, most_answers=many, methods=tuple(methods))

    def _cut_short(self) -> Case:
        """A request that ends in its middle; now and then its sender just waits."""
        method, path, headers, body = documents.made(self._pick)
        given = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
        data = (
            self._head(method, path.format(**self._things), "customer", given)
            + b"Content-Length: %d\r\n\r\n" % len(body)
            + body
        )
        return Case("cut short", data[: self._pick.randrange(1, len(data))], open_end=self._pick.random() < 0.02)


def _in_hex(word: str) -> str:
    return "".join(f"%{ord(letter):02x}" for letter in word)
