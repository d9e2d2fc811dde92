"""What the measurements are made with: the caller, the tables, and what they read of others' tools. No test asserts a time."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from loadtests.bench import calls
from loadtests.bench.__main__ import MEASUREMENTS, main, measurement
from loadtests.bench.caller import Broken, Caller, Plan, percentile, whole
from loadtests.bench.report import Comparison, Run, Target, number, table
from loadtests.bench.scripts import rate_of, transactions_of

ANSWER = b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\nX: y\r\n\r\nhello"


@pytest.mark.parametrize("end", range(len(ANSWER)))
def test_an_answer_is_whole_only_when_its_last_byte_is_there(end: int) -> None:
    assert not whole(ANSWER[:end])
    assert whole(ANSWER)


def test_an_answer_may_have_no_body_and_names_of_headers_any_case() -> None:
    assert whole(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert whole(b"HTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\n{}")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ANSWER + b"!"])
def test_an_answer_that_the_caller_does_not_understand_ends_the_measurement(answer: bytes) -> None:
    with pytest.raises(Broken):
        whole(answer)


class Shop:
    """Answers each request in two pieces, and remembers it. The first answers are refusals."""

    def __init__(self, refusals: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._refusals = refusals
        self._lock = threading.Lock()
        self.port = self._listener.getsockname()[1]
        self.asked: list[bytes] = []

    def serve(self, connections: int) -> None:
        threads = [threading.Thread(target=self._serve, args=self._listener.accept()[:1]) for _ in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._listener.close()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while asked := connection.recv(65_536):
                with self._lock:
                    self.asked.append(asked)
                    refused = len(self.asked) <= self._refusals
                answer = ANSWER.replace(b"201 Created", b"409 Conflict") if refused else ANSWER
                connection.sendall(answer[:-3])
                connection.sendall(answer[-3:])


def test_a_caller_sends_each_request_once_and_counts_every_answer() -> None:
    shop = Shop(refusals=3)
    serving = threading.Thread(target=shop.serve, args=[4])
    serving.start()
    plan = Plan(shop.port, 4, 0.05, 0.1, "mark-", ["first ", "second "], [" one", " two"])
    seen = Caller(plan).run()
    serving.join(10)
    assert seen.answers == len(shop.asked)
    assert seen.statuses == {"409": 3, "201": seen.answers - 3}
    wanted = [[b"first mark-%d one", b"second mark-%d two"][each % 2] % each for each in range(seen.answers)]
    assert sorted(shop.asked) == sorted(wanted)


def test_a_server_that_goes_away_ends_the_measurement() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hanging_up = threading.Thread(target=lambda: listener.accept()[0].close())
        hanging_up.start()
        with pytest.raises((Broken, ConnectionError)):
            Caller(Plan(listener.getsockname()[1], 1, 0, 0.1, "", [""], [""])).run()
        hanging_up.join()


@pytest.mark.parametrize("requests", [calls.reserve(), calls.batch()])
def test_requests_say_how_long_their_body_is_and_no_two_callers_are_the_same(requests: calls.Requests) -> None:
    for head, tail in zip(requests.heads, requests.tails, strict=True):
        end, _, body = tail.partition("\r\n\r\n")
        assert end == ""
        assert f"\r\nContent-Length: {len(body)}\r\n" in head
        assert head.endswith("\r\nIdempotency-Key: ")
        assert json.loads(body)
    assert len(set(requests.heads)) == len(requests.heads)


def test_percentiles_are_values_that_were_seen() -> None:
    assert [percentile([1.0, 2.0, 3.0, 4.0], percent) for percent in (50, 95, 99)] == [3.0, 4.0, 4.0]
    assert percentile([7.0], 50) == 7.0


def test_a_comparison_is_judged_by_its_ratio_or_where_there_is_nothing_beside_it_by_itself() -> None:
    assert Comparison("", 3, 4, "/s", Target(0.75)).verdict == "met"
    assert Comparison("", 2.9, 4, "/s", Target(0.75)).verdict == "MISSED"
    assert Comparison("", 450, None, "bytes", Target(450, at_most=True)).verdict == "met"
    assert Comparison("", 451, None, "bytes", Target(450, at_most=True)).verdict == "MISSED"
    assert Comparison("", 1, 2, "/s").verdict == ""


def test_the_table_of_ratios_has_raw_figures_targets_and_verdicts() -> None:
    run = Run("redis")
    run.compare("a / b", 4000, 5000, "/s", Target(0.75))
    run.compare("bytes", 485, None, "bytes", Target(450, at_most=True))
    assert run.ratios().splitlines() == [
        "        ours  theirs   unit  ratio   target",
        "a / b  4,000   5,000     /s   0.80  >= 0.75     met",
        "bytes    485          bytes          <= 450  MISSED",
    ]


def test_figures_are_kept_with_their_rounds_and_what_they_were_made_on(tmp_path: Path) -> None:
    run = Run("redis", quick=True, servers={"Redis 7"})
    assert run.note("http", "hello", "/s", [1.0, 9.0, 2.0]) == 2.0
    run.compare("a / b", 1, 2, "/s")
    kept = json.loads(run.write(tmp_path).read_text())
    [figure] = kept["figures"]
    assert figure == {"measurement": "http", "name": "hello", "unit": "/s", "rounds": [1.0, 9.0, 2.0], "median": 2.0}
    assert kept["comparisons"][0]["judged"] == 0.5
    assert kept["machine"]["servers"] == ["Redis 7"]
    assert kept["quick"]


def test_tables_stand_in_columns_and_numbers_are_short() -> None:
    assert table([("", "rate"), ("long name", "1")]) == "           rate\nlong name     1"
    assert [number(value) for value in (123456.7, 99.96, 0.12345)] == ["123,457", "100", "0.123"]


def test_what_other_tools_print_is_understood() -> None:
    header = '"test","rps","avg_latency_ms","min_latency_ms"'
    assert rate_of(f'{header}\n"EVALSHA a 1, b","74123.50","0.321","0.1"\n') == 74123.5
    assert (
        transactions_of("latency average = 1 ms\ntps = 2366.073587 (without initial connection time)\n") == 2366.073587
    )


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_every_measurement_is_a_function_that_says_what_it_does(name: str) -> None:
    assert measurement(name).__doc__


def test_a_measurement_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["http", "htpp"])
    assert "there is no htpp" in capsys.readouterr().err
