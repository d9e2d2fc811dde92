"""A short selection of `make fuzz`, and the proof that its judges can say no."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from tests import seed
from tests.fuzz import wire
from tests.fuzz.judge import Answered, Unreadable, answers, faults
from tests.fuzz.run import Arena, fuzz

SEED = 4

PROBLEM = Answered(
    503,
    {"x-request-id": "x", "content-type": "application/problem+json", "retry-after": "1"},
    json.dumps({"status": 503, "code": "closed"}).encode(),
)


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    arena = Arena(seed.plant(tmp_path_factory.mktemp("fuzz") / "data", tmp_path_factory))
    yield arena
    assert arena.service.stop() == 0


@pytest.mark.slow
def test_nothing_that_is_sent_breaks_it_hangs_or_changes_what_it_was_refused(arena: Arena) -> None:
    sent = fuzz(arena, SEED, 0, cases=300, examples=1)
    assert arena.found == []
    assert sum(sent.values()) > 300
    assert {200, 201, 400, 401, 403, 404, 405, 422} <= arena.statuses.keys()


@pytest.mark.slow
def test_the_books_tell_of_a_change_by_a_request_that_was_refused(arena: Arena) -> None:
    headers = {"lines": [{"sku": "fuzz", "quantity": 1}]}
    arena.stock()
    held = arena.service.call("POST", "/v1/reservations", headers, token=arena.tokens["customer"])
    arena.refused.add(held.headers["X-Request-Id"])
    arena.service.call("GET", "/v1/audit", token=arena.tokens["ops"])
    arena.books()
    assert [what for what in arena.found if "a refused request has changed something: reserve" in what]
    arena.refused.clear()
    arena.found.clear()


def test_an_answer_that_does_not_come_a_second_one_and_one_without_a_token_are_seen(arena: Arena) -> None:
    two = wire.Case("two", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
    token = f"Authorization: Bearer {arena.tokens['ops']}\r\n\r\n"
    for_ops = f"GET /v1/skus HTTP/1.1\r\nHost: x\r\n{token}"
    arena.send(two)
    arena.send(wire.Case("open", for_ops.encode(), forbidden=True))
    assert "2 answers, 1 at most were asked for" in arena.found[0]
    assert "answered without a token" in arena.found[1]
    arena.found.clear()


def test_a_good_refusal_has_no_fault() -> None:
    assert faults(PROBLEM) == []


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (replace(PROBLEM, headers=PROBLEM.headers | {"x-request-id": ""}), "it has no X-Request-Id"),
        (
            replace(PROBLEM, headers=PROBLEM.headers | {"content-type": "text/html"}),
            "a refusal of the type 'text/html'",
        ),
        (replace(PROBLEM, headers={"x-request-id": "x", "content-type": "application/problem+json"}), "Retry-After"),
        (replace(PROBLEM, status=500), "it is a 500"),
        (replace(PROBLEM, status=409), "a 409 with the code 'closed'"),
        (replace(PROBLEM, body=b"{"), "no JSON"),
        (Answered(200, {"x-request-id": "x"}, b"Traceback (most recent call last)"), "it tells of the inside"),
    ],
)
def test_each_fault_of_an_answer_is_seen(answer: Answered, fault: str) -> None:
    assert any(fault in found for found in faults(answer))


@pytest.mark.parametrize(
    "data",
    [
        b"<html>",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nA: b\r\nA: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc",
    ],
)
def test_what_is_no_answer_is_seen(data: bytes) -> None:
    with pytest.raises(Unreadable):
        answers(data, ["GET"])


def test_answers_that_come_together_are_told_apart() -> None:
    one = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"
    chunked = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    empty = b"HTTP/1.1 204 No Content\r\n\r\n"
    found = answers(
        b"HTTP/1.1 100 Continue\r\n\r\n" + one + chunked + empty + one[:-2], ["GET", "POST", "DELETE", "HEAD"]
    )
    assert [(each.status, each.body) for each in found] == [(200, b"ab"), (201, b"a"), (204, b""), (200, b"")]


@pytest.mark.parametrize("kind", range(3))
def test_the_same_seed_sends_the_same(kind: int) -> None:
    things = dict.fromkeys(("held", "order", "cart"), "x")
    tokens = dict.fromkeys(("everything", "ops", "customer"), "t")
    first, again = (wire.Wire(Random(kind), tokens, things) for _ in range(2))
    assert [first.case() for _ in range(50)] == [again.case() for _ in range(50)]
