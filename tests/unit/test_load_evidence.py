"""A verdict says nothing that rests on evidence which isn't there, and everything that it rests on the rest."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import pytest

from engine.invariants import Invariant
from loadtests.defaults import SCENARIOS
from loadtests.evidence import CHECKS, COUNTS, FIGURES, Evidence
from loadtests.figures import RESERVE, drift, series, with_and_without_bot
from loadtests.ledger import fold
from loadtests.records import Checkout, Payment, Records
from loadtests.report import WORDS, page
from loadtests.text import shown
from loadtests.thresholds import BY_SCENARIO, LAWS, bounds
from loadtests.verdict import Case, judge
from tests.unit.test_load_report import document
from tests.unit.test_load_verdict import SKU, START_MS, STORY, case, checkout, event

LOST = "1 of 2 locust workers was lost with the records of their buyers"
NOTHING = {each: f"no {each}" for each in Evidence}


def without(*missing: Evidence, scenario: str = "baskets", **more: Any) -> Case:
    """The case of Ann, without some of the evidence, and with what its scenario measures."""
    figures = dict.fromkeys(BY_SCENARIO.get(scenario, {}), 1.0)
    found = case(scenario=scenario, bounds=bounds(scenario), more=figures, **more)
    return dataclasses.replace(found, missing={each: NOTHING[each] for each in missing})


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_threshold_and_every_check_can_be_not_judged(scenario: str) -> None:
    found = judge(without(*Evidence, scenario=scenario, records=Records(), counters=(0, 0, 0)))
    assert {each.name for each in found.thresholds} == bounds(scenario).keys()
    assert {each.name for each in found.checks} == {each.value for each in CHECKS}
    for each in (*found.thresholds, *found.checks):
        assert each.result == "not judged", each
        assert "no " in each.reason
    assert found.wrong == tuple(NOTHING.values())
    text, html = shown(found), page(document(**found.document()))
    for each in (*found.thresholds, *found.checks):
        assert any(line.startswith("not judged  ") and each.name in line for line in text.splitlines())
    assert html.count("<td>not judged: ") == len(found.thresholds) + len(found.checks)
    assert [each for each in found.document()["figures"].values() if each is not None] == []


@pytest.mark.parametrize("evidence", [Evidence.RECORDS, Evidence.BOOKS])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_needs_the_missing_evidence_is_not_judged_and_the_rest_is(scenario: str, evidence: Evidence) -> None:
    quiet = Records(timings={(RESERVE, START_MS // 1000): Counter({5.0: 1})})
    records = case().records if evidence is Evidence.BOOKS else quiet
    found = judge(without(evidence, scenario=scenario, records=records))
    for each in found.thresholds:
        assert (each.result == "not judged") == (evidence in FIGURES[each.name]), each
        assert (each.value is None) or evidence not in FIGURES[each.name]
    for check in found.checks:
        assert (check.result == "not judged") == (evidence in CHECKS[Invariant(check.name)]), check


def test_records_lost_with_a_worker_are_one_true_line_and_no_number_of_theirs() -> None:
    found = judge(
        dataclasses.replace(case(records=Records(), bounds=bounds("baskets")), missing={Evidence.RECORDS: LOST})
    )
    assert found.wrong == (LOST,)
    told = found.document()
    for name in (
        "lost",
        "checkouts",
        "accepted",
        "refused",
        "units_sold",
        "unknown",
        "repeated",
        "throttled",
        "payments",
    ):
        assert told[name] is None
    assert told["oversold"] == 0
    assert told["missing"] == {"records": LOST}
    text = shown(found)
    assert "lost           not judged   must be 0" in text
    assert "expiry_lag_p99_ms        not judged   must be at most 500" in text
    assert "calls          not judged" in text
    assert text.count(LOST) == 2
    assert text.endswith("verdict        FAILED")


def test_what_was_found_is_so_whatever_is_missing() -> None:
    records = Records([checkout("r9", paid=True)], [Payment("r9", "p9", ["committed"])], counts=Counter(errors=2))
    found = judge(
        dataclasses.replace(case(records=records, bounds=bounds("baskets")), missing={Evidence.RECORDS: LOST})
    )
    assert "errors is at least 2, must be 0" in found.wrong
    assert any("r9 has 0 reserve events" in each for each in found.wrong)
    by_name = {each.name: each.result for each in (*found.thresholds, *found.checks)}
    assert (by_name["errors"], by_name["acknowledged"]) == ("missed", "broken")
    assert (by_name["false_refusals"], by_name["refused"]) == ("not judged", "not judged")


def test_units_that_a_buyer_paid_for_are_missed_though_other_records_are_lost() -> None:
    records = Records([checkout("r2", paid=True), checkout("r1", paid=True)], [Payment("r2", "p2", ["committed"])])
    found = judge(
        dataclasses.replace(case(records=records, bounds=bounds("baskets")), missing={Evidence.RECORDS: LOST})
    )
    assert "lost is at least 1, must be 0" in found.wrong


def test_answers_that_never_came_leave_only_unasked_effects_not_judged() -> None:
    records = Records([checkout("r1"), checkout("r2"), Checkout(unknown=True)], [Payment("r1", "p1", unknown=True)])
    found = judge(case(records=records, bounds=bounds("baskets")))
    assert (found.wrong, found.lost) == ((), 0)
    assert found.not_judged == {"2 answers to buyers never came": ["refused"]}


def test_units_beyond_those_of_unanswered_payments_are_lost_all_the_same() -> None:
    story = (*STORY[:4], event("commit", "r2", at_ms=40, payment_id="p2"))
    records = Records([checkout("r1"), checkout("r2")], [Payment("r1", "p1", unknown=True)])
    assert judge(case(story, (3, 0, 2), records=records)).lost == 1


def test_a_hold_that_may_last_is_not_held_for_ever() -> None:
    found = judge(case(STORY[:4], (3, 1, 1), read_ms=START_MS + 12_000))
    assert found.wrong == ()
    assert judge(case(STORY[:4], (3, 1, 1), read_ms=START_MS + 15_000)).wrong != ()


def test_every_figure_has_its_evidence_and_its_words() -> None:
    records = Records()
    named = {*with_and_without_bot(records, 0), *drift(records, 0, 1)}
    for scenario in SCENARIOS:
        named |= judge(case(scenario=scenario)).figures.keys() | bounds(scenario).keys()
    assert named | {"sold_out_after_s"} == FIGURES.keys()
    assert FIGURES.keys() == WORDS.keys()
    assert set(COUNTS) <= FIGURES.keys()


def test_series_have_no_values_of_what_is_missing() -> None:
    def drawn(*missing: Evidence) -> set[str]:
        found = series(case().records, fold(STORY, "run-"), START_MS, START_MS + 9_000, dict.fromkeys(missing, LOST))
        return {name for name, values in found.items() if values == [None] * 10}

    assert drawn(Evidence.RECORDS) - drawn() == {"accepted", "refused"}
    assert drawn(Evidence.BOOKS) == {"available", "reserved", "allocated", "committed", "accepted", *drawn()}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_threshold_that_is_off_is_shown_as_off_and_fails_nothing(scenario: str) -> None:
    for name in bounds(scenario).keys() - LAWS.keys():
        records = Records(timings={(RESERVE, START_MS // 1000): Counter({9_000.0: 1})})
        found = judge(case(scenario=scenario, bounds=bounds(scenario, [f"{name}=off"]), records=records))
        [threshold] = [each for each in found.document()["thresholds"] if each["name"] == name]
        assert (threshold["result"], threshold["bound"], threshold["kept"]) == ("off", None, None)
        assert not any(each.startswith(name) for each in found.wrong)
        assert any(
            line.startswith(name) and line.endswith("its threshold is off") for line in shown(found).splitlines()
        )
        assert f"<td>{name}</td><td>off</td>" in page(document(**found.document()))


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("change", ["foo=1", "foo=off", "=1", "foo"])
def test_a_threshold_that_is_not_there_is_refused_with_those_that_are(scenario: str, change: str) -> None:
    with pytest.raises(ValueError, match="threshold") as refused:
        bounds(scenario, [change])
    words = str(refused.value)
    assert "\n" not in words
    for name in bounds(scenario).keys() - LAWS.keys():
        assert name in words


def test_units_of_the_sku_are_named_in_what_is_lost() -> None:
    found = judge(case(counters=(3, 0, 1)))
    assert any(each.startswith(f"fold: {SKU} has available 3") for each in found.wrong)
