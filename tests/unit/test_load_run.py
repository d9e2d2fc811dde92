"""What a run shows while it goes on, of its rush, and how it is interrupted."""

from __future__ import annotations

import io
import json
import os
import signal
from collections import Counter
from typing import Any

import pytest

import api.views.reservations  # noqa: F401
from api.route import ROUTES
from loadtests import parent, rush
from loadtests.figures import RESERVE, SOLD_OUT
from loadtests.ledger import fold
from loadtests.progress import CLEAR, Progress, line
from loadtests.records import PAYMENT_REFUSALS, Payment, Records, Refusal
from loadtests.report import page
from loadtests.text import shown
from loadtests.verdict import judge
from tests.unit.test_load_report import document
from tests.unit.test_load_verdict import SKU, START_MS, case, checkout, event

RUSH_MS = START_MS + 3_000
CROWD = (
    event("recount", units=3),
    event("reserve", "r0", at_ms=500),
    event("reserve", "r1", at_ms=3_100, user="bea"),
    event("reserve", "r2", at_ms=3_250, user="cid"),
    *(event("commit", f"r{each}", at_ms=3_300 + each, payment_id=f"p{each}") for each in range(3)),
)
"""Three of three: one before the crowd comes, two in its first second."""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def crowd() -> Records:
    second = RUSH_MS // 1000
    return Records(
        checkouts=[checkout("r0", paid=True), checkout("r1", paid=True), checkout("r2", paid=True)],
        payments=[Payment(f"r{each}", f"p{each}", ["committed"]) for each in range(3)],
        refusals=[
            Refusal(RUSH_MS + at_ms, RUSH_MS + at_ms + 9, "dan", [(SKU, 1, "sold_out", 0)])
            for at_ms in (400, 500, 1_200)
        ],
        timings={
            (RESERVE, second - 3): Counter({900.0: 50}),
            (RESERVE, second): Counter({10.0: 3, 80.0: 1}),
            (RESERVE, second + 1): Counter({20.0: 1}),
            (SOLD_OUT, second + 1): Counter({20.0: 7}),
        },
    )


def judged_crowd(**more: Any) -> Any:
    played = fold(CROWD, "run-")
    figures = {"sold_out_after_s": rush.sold_out_after_s(played, SKU, RUSH_MS)}
    whole = {"rush_ms": RUSH_MS, "closed_ms": RUSH_MS + 5_000, "more": figures, "loaded": {SKU: 3}, "records": crowd()}
    return judge(case(CROWD, (0, 0, 3), scenario="flash_crowd", **whole | more))


def test_the_headline_of_a_rush_is_its_best_second_and_not_the_mean_of_the_run() -> None:
    found = judged_crowd()
    figures = found.figures
    assert (figures["rush_accepted_per_s"], figures["rush_commits_per_s"], figures["rush_refused_per_s"]) == (2, 3, 2)
    assert (figures["rush_requests_per_s"], figures["sold_out_after_s"]) == (8, 0.25)
    assert (figures["rush_first_second_p50_ms"], figures["rush_first_second_p99_ms"]) == (10, 80)
    text = shown(found)
    assert "  accepted            3   2 in the best second of the rush\n" in text
    assert "/s" not in text.partition("units sold")[0]
    html = page(document(**found.document()))
    assert "<b>2</b><span>reservations accepted in its best second</span>" in html
    assert "<span>reservations accepted / s" not in html
    assert html.count("<h2>The rush</h2>") == 1


def test_a_rush_is_shown_second_by_second_until_the_last_call() -> None:
    found = judged_crowd()
    assert found.rush == (rush.Second(1, 4, 2, 2, 3, 10, 80), rush.Second(2, 8, 0, 1, 0, 20, 20))
    rows = shown(found).partition("\nsecond of the rush")[2].splitlines()[1:3]
    assert [row.split() for row in rows] == [
        ["1", "4", "2", "2", "3", "10", "80"],
        ["2", "8", "0", "1", "0", "20", "20"],
    ]
    assert json.loads(json.dumps(found.document()))["rush"][0]["requests"] == 4


def test_a_rush_that_never_came_was_not_measured() -> None:
    found = judged_crowd(rush_ms=None, more={"sold_out_after_s": rush.sold_out_after_s(fold(CROWD, "run-"), SKU, None)})
    assert found.rush == ()
    assert {value for name, value in found.figures.items() if name.startswith(("rush_", "sold_out_after"))} == {None}
    assert "best second" not in shown(found)


def test_a_scenario_without_a_rush_has_the_mean_of_the_run() -> None:
    found = judge(case())
    assert (found.rush, found.document()["rush"]) == (None, None)
    assert "0.2/s   2 in the best second" in shown(found)
    assert "The rush" not in page(document())


def test_what_was_left_is_never_sold_out() -> None:
    assert rush.sold_out_after_s(fold(CROWD[:3], "run-"), SKU, RUSH_MS) is None
    assert rush.sold_out_after_s(fold(CROWD[:4], "run-"), SKU, RUSH_MS + 1_000) == -0.75


@pytest.mark.parametrize(("at_ms", "next_ms"), [(1_000.0, 2_000), (1_000.5, 2_000), (1_999.9, 2_000)])
def test_a_rush_begins_with_a_whole_second(at_ms: float, next_ms: int) -> None:
    assert rush.next_second(at_ms) == next_ms


def test_a_line_says_how_far_a_run_is() -> None:
    told = {"requests_per_s": 410.4, "accepted": 2_310, "refused": 402, "errors": 1, "checkouts": 2_500}
    rest = "32 users, 410 requests/s, 2,310 accepted, 402 refused, 1 errors"
    assert line(told, 12, 30, 0, 32) == f"12 s, 18 s left, {rest}"
    assert line(told, 31, 30, 0, 32) == f"31 s, 0 s left, {rest}"
    assert line(told, 12, 0, 6_000, 32) == f"12 s, 2,500 of 6,000 checkouts, {rest}"
    assert line({}, 0, 0, 0, 0) == "0 s, 0 users, 0 requests/s, 0 accepted, 0 refused, 0 errors"


def test_progress_is_one_changing_line_on_a_terminal_and_plain_lines_elsewhere() -> None:
    terminal, log = Terminal(), io.StringIO()
    for stream in (terminal, log):
        told = Progress(stream)
        told.say("loading")
        told.say("judging")
        told.end()
    assert terminal.getvalue() == f"{CLEAR}loading{CLEAR}judging{CLEAR}"
    assert log.getvalue() == "loading\njudging\n"


def test_progress_is_silent_where_it_should_be_and_survives_a_reader_that_left() -> None:
    silent, left = io.StringIO(), io.StringIO()
    Progress(silent, silent=True).say("loading")
    assert silent.getvalue() == ""
    told = Progress(left)
    left.close()
    told.write("loading")


def test_a_payment_may_be_refused_with_every_code_that_the_api_has_for_it() -> None:
    [route] = [route for route, _ in ROUTES if route.path.endswith("/commit")]
    assert set(PAYMENT_REFUSALS) == set(route.refusals) - {"not_found", "idempotency_key_reused"}
    payment = Payment("r1", "p1")
    assert all(payment.refused(code) for code in PAYMENT_REFUSALS)
    assert not payment.refused("idempotency_key_reused")
    assert payment.outcomes == list(PAYMENT_REFUSALS)


def test_a_payment_refused_as_used_already_though_it_paid_is_found() -> None:
    records = Records([checkout("r1"), checkout("r2")], [Payment("r1", "p1", ["payment_already_used"])])
    assert any("p1 of r1 was refused, but has 1 commit events" in each for each in judge(case(records=records)).wrong)


def test_an_interrupt_that_a_process_took_is_seen_in_its_handlers() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert parent.catches_interrupt(os.getpid())
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        assert not parent.catches_interrupt(os.getpid())
    finally:
        signal.signal(signal.SIGINT, before)
    assert not parent.catches_interrupt(0)
