"""HTTP/1.1 as the worker reads and writes it: one request after another, each whole, whatever a client sends."""

from __future__ import annotations

import time

import pytest

from api import http1
from api.http1 import (
    KEEP_ALIVE_SECONDS,
    MAX_BODY_BYTES,
    MAX_DISCARDED_BYTES,
    MAX_FIELD_BYTES,
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    Connection,
    Environ,
    Request,
)

GET = b"GET /a?b=1 HTTP/1.1\r\nHost: x\r\n\r\n"
BAD = b"BAD: "


class Site:
    """A worker that answers when it's told to, and the client's side of a connection."""

    def __init__(self) -> None:
        self.alive = True
        self.base: Environ = {"SERVER_NAME": "x"}
        self.taken: list[Request] = []
        self.written = b""
        self.ended = self.paused = self.is_closed = self.is_aborted = False
        self.unsent = 0
        self.connection = Connection(self)
        self.connection.connection_made(self)

    # As a worker

    def enqueue(self, connection: Connection, request: Request) -> None:
        self.taken.append(request)

    def closed(self, connection: Connection) -> None:
        self.is_closed = True

    def bad_request(self, detail: str) -> bytes:
        return BAD + detail.encode()

    # As a transport

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, parts: list[bytes]) -> None:
        self.written += b"".join(parts)

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    # As a client

    def send(self, data: bytes, size: int = 0) -> None:
        for at in range(0, len(data), size or len(data)):
            self.connection.data_received(data[at : at + (size or len(data))])

    def answer(self, status: str = "200 OK", body: bytes = b"{}") -> str:
        """Answer the oldest request. Returns: what was written."""
        self.written = b""
        self.connection.answer(self.taken.pop(0), status, [("Content-Length", str(len(body)))] if body else [], body)
        return self.written.decode()


@pytest.fixture
def site() -> Site:
    return Site()


def body_of(request: Request) -> bytes:
    return bytes(request.environ["wsgi.input"].read())


@pytest.mark.parametrize("size", [0, 1, 7])
def test_a_request_is_taken_when_it_is_whole_however_it_comes(site: Site, size: int) -> None:
    site.send(
        b"POST /v1/x%20y?sku=a HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-A: 1\r\nX-A: 2\r\n", size
    )
    site.send(b"Under_Score: no\r\nContent-Length: 5\r\n\r\nhel", size)
    assert site.taken == []
    site.send(b"lo", size)
    [request] = site.taken
    environ = request.environ
    assert (environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"]) == ("POST", "/v1/x y", "sku=a")
    assert (environ["RAW_URI"], environ["CONTENT_TYPE"]) == ("/v1/x%20y?sku=a", "application/json")
    assert (environ["CONTENT_LENGTH"], environ["HTTP_X_A"], environ["SERVER_NAME"]) == ("5", "1,2", "x")
    assert not [name for name in environ if "UNDER" in name]
    assert body_of(request) == b"hello"


def test_chunks_are_one_body_and_what_follows_them_is_nobody_s_header(site: Site) -> None:
    site.send(b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Late: 1\r\n\r\n", 3)
    [request] = site.taken
    assert body_of(request) == b"hello"
    assert "HTTP_X_LATE" not in request.environ


def test_answers_come_in_the_order_of_the_requests(site: Site) -> None:
    site.send(GET * 3)
    assert len(site.taken) == 1
    assert site.paused
    for _ in range(3):
        assert "Connection: keep-alive\r\n" in site.answer()
    assert site.taken == []
    assert not site.paused
    assert not site.ended


def test_a_connection_is_closed_where_one_side_wants_that(site: Site) -> None:
    site.send(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert "Connection: close\r\n" in site.answer()
    assert site.ended
    old = Site()
    old.send(b"GET / HTTP/1.0\r\n\r\n")
    assert "Connection: close\r\n" in old.answer()
    stopping = Site()
    stopping.send(GET)
    stopping.alive = False
    assert "Connection: close\r\n" in stopping.answer()
    assert stopping.ended


def test_an_answer_to_head_has_no_body_and_an_empty_one_no_length(site: Site) -> None:
    site.send(b"HEAD / HTTP/1.1\r\n\r\n" + GET * 2)
    head = site.answer()
    assert "Content-Length: 2\r\n" in head
    assert head.endswith("\r\n\r\n")
    assert "Content-Length" not in site.answer("204 No Content", b"")
    assert "Content-Length: 0\r\n" in site.answer("200 OK", b"")


def test_a_large_answer_is_written_whole(site: Site) -> None:
    site.send(GET)
    assert site.answer(body=b"x" * 100_000).endswith("\r\n\r\n" + "x" * 100_000)


def test_a_path_may_be_written_with_its_host(site: Site) -> None:
    site.send(b"GET http://host/docs/?a HTTP/1.1\r\n\r\n")
    assert site.taken[0].environ["PATH_INFO"] == "/docs/"


def test_a_body_that_was_announced_is_asked_for(site: Site) -> None:
    site.send(b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert site.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    site.send(b"ok")
    assert body_of(site.taken[0]) == b"ok"


def test_of_a_body_beyond_measure_the_beginning_is_kept_and_its_length_is_known(site: Site) -> None:
    length = MAX_BODY_BYTES + 300_000
    site.send(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % length)
    site.send(b"x" * length, 65_536)
    [request] = site.taken
    assert request.environ["CONTENT_LENGTH"] == str(length)
    assert MAX_BODY_BYTES < len(body_of(request)) < length
    endless = Site()
    endless.send(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_DISCARDED_BYTES + 65_536))
    endless.send(b"x" * (MAX_DISCARDED_BYTES + 65_536), 65_536)
    assert endless.written == BAD + b"The body is too large."
    assert endless.ended


NO_REQUESTS = {
    "no method": (b"x / HTTP/1.1\r\n\r\n", "not valid HTTP"),
    "another version": (b"GET / HTTP/2.0\r\n\r\n", "not valid HTTP"),
    "a bare newline": (b"GET / HTTP/1.1\nHost: x\r\n\r\n", "not valid HTTP"),
    "two lengths": (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", ""),
    "a length and chunks": (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP"),
    "another coding": (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "not valid HTTP"),
    "much expected": (b"GET / HTTP/1.1\r\nExpect: much\r\n\r\n", "not valid HTTP"),
    "who twice": (b"GET / HTTP/1.1\r\nStockade-User: a\r\nstockade-user: b\r\n\r\n", "Duplicate header"),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (MAX_FIELDS + 1) + b"\r\n", "too large"),
    "a long header": (b"GET / HTTP/1.1\r\nX: " + b"y" * MAX_FIELD_BYTES + b"\r\n\r\n", "too large"),
    "a long path": (b"GET /" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\n\r\n", "too large"),
    "a path without an end": (b"GET /" + b"x" * MAX_HEAD_BYTES, "too large"),
    "a space before the colon": (b"GET / HTTP/1.1\r\nX : y\r\n\r\n", "not valid HTTP"),
    "a folded header": (b"GET / HTTP/1.1\r\nX: y\r\n z\r\n\r\n", "not valid HTTP"),
}


@pytest.mark.parametrize(("data", "says"), NO_REQUESTS.values(), ids=NO_REQUESTS.keys())
def test_what_is_no_request_is_told_so_and_cut_off(site: Site, data: bytes, says: str) -> None:
    site.send(data)
    assert site.taken == []
    assert site.written.startswith(BAD)
    assert says in site.written.decode()
    assert site.ended
    site.send(GET)
    assert site.taken == []


def test_what_is_no_request_behind_one_that_is_ends_the_connection_after_that_one_s_answer(site: Site) -> None:
    site.send(GET + b"rubbish\r\n\r\n")
    assert "Connection: close\r\n" in site.answer()
    assert site.ended


def test_a_request_whose_body_makes_no_sense_is_answered_for_its_head(site: Site) -> None:
    site.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n" + GET)
    [request] = site.taken
    with pytest.raises(OSError, match="not valid HTTP"):
        body_of(request)
    assert "Connection: close\r\n" in site.answer("400 Bad Request")
    assert site.ended
    assert site.taken == []


@pytest.mark.parametrize(
    "trailer", [b"Host: y", b"Content-Length: 5", b"Authorization: Bearer x", b"X: y\r\n" * 101 + b"X: y"]
)
def test_what_must_not_stand_behind_chunks_spoils_the_request_and_what_follows(site: Site, trailer: bytes) -> None:
    site.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + trailer + b"\r\n\r\n" + GET)
    [request] = site.taken
    with pytest.raises(OSError, match="not valid HTTP"):
        body_of(request)
    assert "Connection: close\r\n" in site.answer("400 Bad Request")
    assert site.taken == []


def test_a_client_that_sends_no_more_gets_its_answers(site: Site) -> None:
    site.send(GET * 2)
    assert site.connection.eof_received()
    assert "keep-alive" in site.answer()
    assert "Connection: close" in site.answer()
    assert site.is_closed
    assert not Site().connection.eof_received()
    half = Site()
    half.send(b"GET / HT")
    assert half.connection.eof_received()
    assert half.written == BAD + b"The request ends too soon."


def test_whose_time_is_up_is_told_in_the_midst_of_a_request_and_else_just_loses_the_connection(site: Site) -> None:
    site.send(b"GET / HT")
    first_s = site.connection.until_s
    site.connection.time_out()
    assert site.written == BAD + b"The request did not come in time."
    idle = Site()
    idle.send(GET)
    idle.connection.time_out()
    assert not idle.is_closed, "it is worked on"
    idle.answer()
    assert idle.connection.until_s > first_s + KEEP_ALIVE_SECONDS / 2
    idle.connection.time_out()
    assert idle.is_closed


BAD_HEADS = {
    b"Authorization: a\r\nAuthorization: b": "Duplicate header: Authorization.",
    b"Expect: nope": "The request is not valid HTTP.",
    b"\r\n".join(b"X-%d: x" % number for number in range(101)): "The head is too large.",
    b"Transfer-Encoding: gzip, chunked\r\n\r\n0": "The request is not valid HTTP.",
}


@pytest.mark.parametrize("head", BAD_HEADS)
@pytest.mark.parametrize("before", [0, 1, 2])
def test_nothing_behind_a_request_that_is_refused_is_taken_for_its_next(site: Site, head: bytes, before: int) -> None:
    """In one piece: an answer too few would give each request the answer of the one after it."""
    site.send(GET * before + b"GET /bad HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n" + GET * 2)
    if before == 0:
        assert (site.taken, site.written) == ([], BAD + BAD_HEADS[head].encode())
        return
    for _ in range(before):
        last = site.answer()
    assert site.taken == []
    assert "Connection: close" in last


ENDLESS = {
    "value": b"GET / HTTP/1.1\r\nX: ",
    "name": b"GET / HTTP/1.1\r\nX",
    "path": b"GET /",
    "trailer": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: ",
    "extension": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x=",
}


@pytest.mark.parametrize("what", ENDLESS)
def test_what_does_not_end_is_not_kept_without_end(site: Site, what: str) -> None:
    site.send(ENDLESS[what])
    for _ in range(MAX_HEAD_BYTES // 1_000 + 2):
        site.send(b"x" * 1_000)
    assert site.written == BAD + b"The head is too large."
    assert site.ended


def test_a_body_may_come_in_chunks_of_a_byte(site: Site) -> None:
    site.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(60_000):
        site.send(b"1\r\nx\r\n")
    site.send(b"0\r\n\r\n")
    assert body_of(site.taken[0]) == b"x" * 60_000


@pytest.mark.parametrize("cut", range(1, 40))
def test_letters_as_they_are_may_be_cut_anywhere(site: Site, cut: int) -> None:
    line = "GET /v1/availability?sku=größe HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    site.send(line[:cut])
    site.send(line[cut:])
    assert site.taken[0].environ["QUERY_STRING"] == "sku=gr%C3%B6%C3%9Fe"


def test_a_request_waits_from_when_it_is_its_turn_on_its_own_connection(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = time.monotonic()
    monkeypatch.setattr(http1.time, "monotonic", lambda: now_s)
    site.send(GET * 2)
    now_s += 30
    site.answer()
    assert site.taken[0].arrived_s == now_s


def test_an_answer_has_one_date(site: Site) -> None:
    site.send(GET)
    site.connection.answer(site.taken.pop(), "200 OK", [("Date", "then")], b"")
    assert site.written.count(b"Date: ") == 1
    assert b"Date: then" in site.written


def test_who_reads_slowly_has_as_long_for_the_last_answer_as_for_others(site: Site) -> None:
    site.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    site.connection.pause_writing()
    until_s = site.connection.until_s
    site.answer()
    assert site.connection.until_s == until_s
    site.connection.resume_writing()
    assert site.connection.until_s < until_s


def test_who_does_not_take_what_is_left_loses_the_connection_however_little_that_is(site: Site) -> None:
    site.send(GET)
    site.answer()
    site.unsent = 1
    site.connection.time_out()
    assert site.is_aborted
    polite = Site()
    polite.connection.time_out()
    assert polite.is_closed
    assert not polite.is_aborted
    polite.connection.time_out()
    assert polite.is_aborted, "it was closed, and its client didn't see that"


def test_a_connection_that_is_not_made_yet_has_no_time_to_be_up() -> None:
    connection = Connection(Site())
    connection.time_out()


def test_who_takes_no_answers_gets_no_more_requests_answered(site: Site) -> None:
    site.send(GET * 3)
    site.connection.pause_writing()
    site.answer()
    assert site.taken == []
    assert site.paused
    site.connection.resume_writing()
    assert len(site.taken) == 1
    assert not site.paused
