"""How a request is gathered: when it is whole, who has to wait for it, and what is refused unseen."""

from __future__ import annotations

import pytest

from api.gathering import MOST_GATHERED_BYTES, REQUEST_SECONDS, SILENCE_SECONDS, Coming

HEAD = b"POST /v1/carts HTTP/1.1\r\nHost: x\r\n"
WHOLE = HEAD + b"Content-Length: 3\r\n\r\nabc"


def test_a_request_is_whole_with_its_last_byte_and_not_before() -> None:
    coming = Coming()
    assert [coming.add(WHOLE[at : at + 1]) for at in range(len(WHOLE))] == [False] * (len(WHOLE) - 1) + [True]
    assert (coming.data, coming.streams, coming.flaw) == (WHOLE, False, "")


def test_what_comes_behind_a_request_is_kept_with_it() -> None:
    coming = Coming()
    assert coming.add(WHOLE + b"GET /h")
    assert coming.data == WHOLE + b"GET /h"


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
        HEAD + b"transfer-encoding: CHUNKED\r\n\r\n",
        HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        HEAD + b"Content-Length: %d\r\n\r\n" % MOST_GATHERED_BYTES,
        HEAD + b"Content-Length: 0000000000000003\r\n\r\n",
        HEAD + b"Content-Length: 9999999999999999\r\n\r\n",
        b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\n\r\n",
        b"GET /%64ocs/swagger-ui-bundle.js HTTP/1.1\r\n\r\n",
        b"GET http://x/docs/swagger-ui-bundle.js HTTP/1.1\r\n\r\n",
    ],
)
def test_what_can_not_be_gathered_is_for_those_who_have_patience(head: bytes) -> None:
    coming = Coming()
    assert coming.add(head)
    assert coming.streams


@pytest.mark.parametrize("length", [b"x", b"-1", b"+3", b"", b"9" * 5_000, b"\xb2", b"3, 3"])
def test_a_length_that_is_none_is_left_to_gunicorn(length: bytes) -> None:
    coming = Coming()
    assert coming.add(HEAD + b"Content-Length: " + length + b"\r\n\r\n")


@pytest.mark.parametrize("data", [b"\0", b"\r\n\r\n", b"GET /\r\n", b"\x16\x03\x01", b"GET / HTTP/3.0\r\n\r\n"])
def test_what_makes_no_sense_is_left_to_gunicorn_at_once(data: bytes) -> None:
    coming = Coming()
    assert coming.add(data)
    assert not coming.flaw


@pytest.mark.parametrize(
    ("headers", "flaw"),
    [
        (b"Authorization: a\r\nauthorization: b\r\n\r\n", "Duplicate header: Authorization."),
        (b"Stockade-User: a\r\nX: y\r\nSTOCKADE-USER: a\r\n\r\n", "Duplicate header: Stockade-User."),
        (b"X: y\nTransfer-Encoding: chunked\r\n\r\n", "A line of the head ends without CR."),
        (b"X: y\r\n\n", "A line of the head ends without CR."),
        (b"X: y\r\nX: z\r\n\r\n", ""),
    ],
)
def test_what_two_servers_could_read_differently_is_refused(headers: bytes, flaw: str) -> None:
    coming = Coming()
    coming.add(HEAD + headers)
    assert coming.flaw == flaw


def test_a_head_without_an_end_is_not_gathered_for_ever() -> None:
    coming, line = Coming(), b"X: " + b"y" * 4_000 + b"\r\n"
    assert not coming.add(b"GET / HTTP/1.1\r\n")
    taken = 1
    while not coming.add(line):
        taken += 1
    assert coming.flaw == "The head is too large."
    assert (taken - 1) * len(line) <= MOST_GATHERED_BYTES < (taken + 1) * len(line)


def test_silence_and_dawdling_are_told_apart_from_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1_000.0
    monkeypatch.setattr("api.gathering.time.monotonic", lambda: now_s)
    coming = Coming()
    coming.add(b"GET /")
    assert not coming.is_too_slow(now_s + SILENCE_SECONDS - 1)
    assert coming.is_too_slow(now_s + SILENCE_SECONDS + 1)
    while now_s < 1_000 + REQUEST_SECONDS:
        now_s += SILENCE_SECONDS - 1
        coming.add(b"x")
    assert coming.is_too_slow(now_s + 1)
