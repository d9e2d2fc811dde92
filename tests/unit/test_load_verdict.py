"""The judge of the load tests must believe true stories, and no broken one."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from loadtests import history, ledger
from loadtests.figures import percentile, series
from loadtests.ledger import fold
from loadtests.records import BOT_PLAN, Checkout, Payment, Records, Refusal
from loadtests.text import shown
from loadtests.thresholds import LAWS, bounds
from loadtests.verdict import Case, Verdict, judge

START_MS = 1_800_000_000_000
SKU = "run-mug"


def event(op: str, reservation_id: str = "", units: int = 1, at_ms: int = 0, **more: Any) -> dict[str, Any]:
    """An event as GET /v1/audit has it, so many milliseconds after the start."""
    at = datetime.fromtimestamp((START_MS + at_ms) / 1000, UTC).isoformat(timespec="milliseconds")
    lines = [{"sku": SKU, "quantity": units}]
    return {
        "epoch": 1,
        "seq": at_ms + 1,
        "op": op,
        "actor": "shop",
        "reason": "",
        "reservation_id": reservation_id,
        "at": at,
        "lines": lines,
        "user": "ann",
        "payment_id": "p1" if op in ("commit", "refund_required") else "",
        **more,
    }


def checkout(reservation_id: str, deadline_ms: int = 9_000, **more: Any) -> Checkout:
    return Checkout(reservation_id, {SKU: 1}, "pays", "ann", START_MS, START_MS + deadline_ms, **more)


STORY = (
    event("recount", units=5),
    event("reserve", "r1", at_ms=10),
    event("reserve", "r2", at_ms=20),
    event("commit", "r1", at_ms=30),
    event("expire", "r2", at_ms=9_040),
)


def case(events: Sequence[Mapping[str, Any]] = STORY, counters: tuple[int, int, int] = (4, 0, 1), **more: Any) -> Case:
    """Ann has bought one of five mugs, and let another hold run out."""
    records = Records(
        checkouts=[checkout("r1", paid=True), checkout("r2")], payments=[Payment("r1", "p1", ["committed"])]
    )
    whole: dict[str, Any] = {
        "scenario": "baskets",
        "seconds": 10.0,
        "loaded": {SKU: 5},
        "counters": {SKU: dict(zip(ledger.COUNTER_NAMES, counters, strict=True))},
        "ledger": fold(events, "run-"),
        "happened": tuple(history.events(events, "run-")),
        "records": records,
        "bounds": bounds("baskets"),
    }
    return Case(**whole | more)


def refused(from_ms: float, until_ms: float, requested: int = 1, next_release_ms: int = 0) -> Records:
    promised = START_MS + next_release_ms if next_release_ms else 0
    told = [(SKU, requested, "all_held", promised)]
    return Records(refusals=[Refusal(START_MS + from_ms, START_MS + until_ms, "bob", told)])


def test_a_true_story_is_believed() -> None:
    found = judge(case())
    assert found.wrong == ()
    assert (found.accepted, found.units_sold, found.oversold, found.lost) == (2, 1, 0, 0)
    assert found.figures["conversion"] == 0.5
    assert found.figures["expiry_lag_p99_ms"] == 40
    assert shown(found).endswith("verdict        passed")


def broken_stories() -> dict[str, tuple[Callable[[], Case], str]]:
    """Cases by what is wrong with them, and what the judge says."""
    without_deadline = [checkout("r1", paid=True), checkout("r2")]
    return {
        "one more on the shelf": (lambda: case(counters=(5, 0, 1)), "lost is 1"),
        "one gone from the shelf": (lambda: case(counters=(3, 0, 1)), "lost is 1"),
        "more allocated than there was": (lambda: case(counters=(0, 0, 6)), "oversold is 1"),
        "below zero on the shelf": (lambda: case(counters=(-1, 0, 6)), "oversold is"),
        "the SKU is gone": (lambda: dataclasses.replace(case(), counters={}), "is gone"),
        "still held": (
            lambda: case(STORY[:4], (3, 1, 1)),
            "return_bound: reservation r2 ran out, and holds 1 units for ever",
        ),
        "below zero on the way": (
            lambda: case((event("reserve", "r1"), event("recount", units=5), *STORY[2:])),
            "oversold is 1",
        ),
        "a reservation that isn't in the ledger": (lambda: case((*STORY[:2], *STORY[3:])), "r2 has 0 reserve events"),
        "a reservation that nobody made": (
            lambda: case((*STORY, event("reserve", "r3"), event("release", "r3"))),
            "r3 is in the ledger, but no buyer was told",
        ),
        "paid twice": (lambda: case((*STORY, event("commit", "r1", payment_id="p2"))), "r1 was paid 2 times"),
        "paid, but not in the ledger": (lambda: case((*STORY[:3], *STORY[4:])), "order r1 has 0 commit events"),
        "a payment with two answers": (
            lambda: case(records=Records(without_deadline, [Payment("r1", "p1", ["committed", "refund_required"])])),
            "answered in different ways",
        ),
        "a refund that isn't in the ledger": (
            lambda: case(records=Records(without_deadline, [Payment("r2", "p9", ["refund_required"])])),
            "has 0 refund events",
        ),
        "a refund that nobody asked for": (
            lambda: case((*STORY, event("refund_required", "r2", payment_id="p9", lines=[]))),
            "p9 is to be refunded by the ledger",
        ),
        "above the limit for a moment": (lambda: case(limits={SKU: 1}), "ann had 2 of run-mug"),
        "expired twice": (
            lambda: case((*STORY, STORY[-1])),
            "lifecycle: event 1-9041 (expire) of reservation r2 finds it expired",
        ),
        "more returned than was held": (
            lambda: case((*STORY[:4], event("expire", "r2", units=2, at_ms=9_040))),
            "of reservation r2 moves run-mug=2, but it is about run-mug=1",
        ),
        "expired too late": (
            lambda: case((*STORY[:4], event("expire", "r2", at_ms=9_900))),
            "expiry_lag_p99_ms is 900",
        ),
        "expired before its deadline": (
            lambda: case((*STORY[:4], event("expire", "r2", at_ms=8_000))),
            "expired_early is 1",
        ),
        "a call given up": (lambda: case(records=Records(counts=Counter(errors=1))), "errors is 1"),
        "an answer that can't be": (lambda: case(records=Records(problems=["what?"])), "what?"),
    }


@pytest.mark.parametrize("wrong", broken_stories())
def test_a_broken_story_is_not_believed(wrong: str) -> None:
    make, words = broken_stories()[wrong]
    found = judge(make())
    assert any(words in each for each in found.wrong), found.wrong
    assert shown(found).endswith("verdict        FAILED")


def test_what_a_buyer_was_not_told_is_counted_and_not_guessed() -> None:
    records = Records([checkout("r1", paid=True), Checkout(unknown=True)], [Payment("r1", "p1", ["committed"])])
    found = judge(case(records=records))
    assert (found.wrong, found.unknown) == ((), 1)


def test_a_late_payment_takes_its_units_from_available() -> None:
    story = (*STORY, event("commit", "r2", at_ms=9_500, payment_id="p2"))
    payments = [Payment("r1", "p1", ["committed"]), Payment("r2", "p2", ["committed"])]
    records = Records([checkout("r1", paid=True), checkout("r2", paid=True)], payments)
    assert judge(case(story, (3, 0, 2), records=records)).wrong == ()


def test_topped_up_stock_is_no_surplus() -> None:
    story = (*STORY, event("restock", units=10))
    assert judge(case(story, (14, 0, 1), loaded={SKU: 15})).wrong == ()


ALL_HELD = (event("recount", units=1), event("reserve", "r1", at_ms=10), event("expire", "r1", at_ms=1_200))
"""One mug, whose hold is due after 1000 ms and ended after 1200."""

FALSE = {
    "free before anybody had it": (2, 8, True),
    "held": (500, 600, False),
    "taken during the call": (5, 15, False),
    "falls due during the call": (990, 1_100, False),
    "due during the whole call, and not ended": (1_010, 1_100, True),
    "due, and ended during the call": (1_150, 1_250, True),
    "ended before the call": (1_300, 1_310, True),
}


@pytest.mark.parametrize("when", FALSE)
def test_a_refusal_is_false_if_there_was_enough_all_through_the_call(when: str) -> None:
    from_ms, until_ms, is_false = FALSE[when]
    records = refused(from_ms, until_ms)
    records.checkouts.append(checkout("r1", deadline_ms=1_000))
    found = judge(case(ALL_HELD, (1, 0, 0), records=records, loaded={SKU: 1}))
    assert found.figures["false_refusals"] == is_false
    assert bool(found.wrong) == is_false


def test_a_hold_that_never_ended_counts_as_free_from_its_deadline_on() -> None:
    records = refused(1_010, 1_100)
    records.checkouts.append(checkout("r1", deadline_ms=1_000))
    assert judge(case(ALL_HELD[:2], (0, 1, 0), records=records, loaded={SKU: 1})).figures["false_refusals"] == 1


def test_a_refusal_of_more_than_there_was_is_true() -> None:
    records = refused(1_300, 1_310, requested=2)
    records.checkouts.append(checkout("r1", deadline_ms=1_000))
    assert judge(case(ALL_HELD, (1, 0, 0), records=records, loaded={SKU: 1})).wrong == ()


def test_a_refusal_until_a_moment_that_has_passed_is_false() -> None:
    records = refused(500, 600, next_release_ms=400)
    records.checkouts.append(checkout("r1", deadline_ms=1_000))
    found = judge(case(ALL_HELD, (1, 0, 0), records=records, loaded={SKU: 1}))
    assert any("had passed already" in each for each in found.wrong)


def test_records_of_workers_add_up_to_the_same_as_those_of_one_process() -> None:
    records = refused(1, 2)
    records.checkouts += [checkout("r1", paid=True), Checkout(unknown=True)]
    records.payments.append(Payment("r1", "p1", ["committed"]))
    records.counts.update(errors=1, repeated=2)
    records.problems.append("what?")
    records.timed("GET /", START_MS, 12.345)
    added = Records()
    for message in records.messages():
        added.add(message)
    assert added == records
    for message in records.messages():
        added.add(message)
    assert added.counts["repeated"] == 4
    assert added.timings == {("GET /", START_MS // 1000): Counter({12.3: 2})}


def test_a_threshold_can_be_changed_for_a_run_but_not_a_promise() -> None:
    changed = bounds("soak", ["latency_drift=3", "reserve_p99_ms=off"])
    assert (changed["latency_drift"], changed["reserve_p99_ms"]) == (3, None)
    for wrong in (
        "latency_drift",
        "latency_drift=fast",
        "latency_drift=nan",
        "foo=1",
        "turnover=1",
        *(f"{law}=1" for law in LAWS),
    ):
        with pytest.raises(ValueError, match="threshold"):
            bounds("soak", [wrong])


def test_what_was_not_measured_is_neither_kept_nor_missed() -> None:
    found = judge(case(bounds={"sold_out_p99_ms": 100.0}))
    assert (found.wrong, found.thresholds[0].kept) == ((), None)
    assert "sold_out_p99_ms          not measured   must be at most 100" in shown(found)


def test_an_interrupted_run_has_not_passed() -> None:
    found = judge(case(interrupted=True))
    assert shown(found).endswith("verdict        interrupted")
    assert (found.document()["passed"], found.document()["interrupted"]) == (False, True)


def test_a_bot_is_in_no_rate_of_honest_buyers() -> None:
    whole = case((*STORY, event("reserve", "r3", at_ms=40, user="bot"), event("release", "r3", at_ms=50, user="bot")))
    records = refused(100, 110)
    records.checkouts += [
        *whole.records.checkouts,
        Checkout("r3", {SKU: 1}, BOT_PLAN, "bot", START_MS, START_MS + 9_000),
    ]
    records.payments += whole.records.payments
    records.refusals.append(Refusal(START_MS + 100, START_MS + 110, "bot", [(SKU, 9, "limit", 0)]))
    found = judge(dataclasses.replace(whole, records=records))
    assert (found.checkouts, found.accepted, found.refused) == (2, 2, 1)
    assert found.refused_lines == {"all_held": 1}
    assert found.bot == {"checkouts": 1, "accepted": 1, "refused": 1}
    assert (found.figures["conversion"], found.figures["accepted_peak_per_s"]) == (0.5, 2)
    assert (found.figures["accepted_per_s"], found.figures["refused_per_s"]) == (0.2, 0.1)


def test_a_figure_that_must_be_high_fails_a_run_when_it_is_low() -> None:
    found = judge(case(bounds={"turnover": 1.5}))
    assert found.wrong == ("turnover is 0.4, must be at least 1.5",)


@pytest.mark.parametrize(("share", "value"), [(0.01, 1.0), (0.5, 1.0), (0.51, 2.0), (0.99, 4.0), (1.0, 4.0)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: float) -> None:
    assert percentile({1.0: 2, 2.0: 1, 4.0: 1}, share) == value
    assert percentile({}, share) is None


def test_the_series_have_totals_at_the_end_of_each_second_and_rates_in_it() -> None:
    found = series(refused(1_100, 1_200), fold(STORY, "run-"), START_MS, START_MS + 3_500)
    assert found["step_s"] == 1
    assert (found["available"], found["reserved"], found["allocated"]) == ([3] * 4, [1] * 4, [1] * 4)
    assert (found["accepted"], found["refused"], found["committed"]) == (
        [2, 0, 0, None],
        [0, 1, 0, None],
        [1, 0, 0, None],
    )
    assert found["p99_ms"] == [None] * 4


def test_a_verdict_as_a_document_says_whether_it_passed() -> None:
    document = judge(case()).document()
    assert document["passed"] is True
    assert {field.name for field in dataclasses.fields(Verdict)} <= set(document)
    fields = {"name", "bound", "value", "kept", "at_least", "reason", "result"}
    assert all(fields == set(each) for each in document["thresholds"])
