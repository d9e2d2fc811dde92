from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import pytest

from engine.errors import StoreUnavailable
from engine.meter import BUCKETS, REGISTRY, Meter, outcome, taken


class Published:
    def __init__(self) -> None:
        self.rates: list[dict[str, int]] = []

    def __call__(self, rates: Mapping[str, int]) -> None:
        self.rates.append(dict(rates))


@pytest.fixture
def published() -> Published:
    return Published()


@pytest.fixture
def meter(published: Published) -> Meter:
    """A meter that takes notes, but makes metrics of them only when it's told to."""
    made = Meter(published)
    made._started = True
    return made


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_meter_that_was_not_started_takes_no_notes(published: Published) -> None:
    meter = Meter(published)
    meter.ran("idle", 0.001, ["done"])
    meter.waited("idle", 0.1)
    meter.refused()
    meter.catch_up()
    meter._tell()
    assert counted("stockade_script_outcomes_total", script="idle", outcome="done") == 0
    assert counted("stockade_wait_seconds_count", pool="idle") == 0
    assert published.rates == []


def test_runs_are_counted_by_outcome_and_timed_by_round_trip(meter: Meter) -> None:
    meter.ran("tried", 0.003, ["done", "done", "closed"])
    meter.ran("tried", 0.004, ["done"])
    meter.catch_up()
    assert counted("stockade_script_outcomes_total", script="tried", outcome="done") == 3
    assert counted("stockade_script_outcomes_total", script="tried", outcome="closed") == 1
    assert counted("stockade_script_seconds_count", script="tried") == 2
    assert counted("stockade_script_seconds_sum", script="tried") == pytest.approx(0.007)
    assert counted("stockade_script_seconds_bucket", script="tried", le="0.0025") == 0
    assert counted("stockade_script_seconds_bucket", script="tried", le="0.005") == 2
    meter.catch_up()
    assert counted("stockade_script_seconds_count", script="tried") == 2


def test_waits_are_timed_by_pool(meter: Meter) -> None:
    meter.waited("bench", BUCKETS[-1] + 1)
    meter.waited("bench", 0.0009)
    meter.catch_up()
    assert counted("stockade_wait_seconds_bucket", pool="bench", le="+Inf") == 1
    assert counted("stockade_wait_seconds_bucket", pool="bench", le=str(BUCKETS[-1])) == 0


def test_what_happened_is_told_once_and_only_if_something_did(meter: Meter, published: Published) -> None:
    meter.ran("reserve", 0.001, ["reserved"])
    meter.ran("reserve", 0.001, ["lines_unavailable"])
    meter.ran("reserve", 0.001, ["replayed"])
    meter.ran("expire", 0.001, ["expired", "expired", "ended"])
    meter.refused()
    meter.catch_up()
    meter._tell()
    meter._tell()
    assert published.rates == [{"reserve": 1, "expire": 2, "refuse": 1}]


def test_a_redis_that_can_not_be_told_is_not_told_twice(published: Published) -> None:
    def fail(rates: Mapping[str, int]) -> None:
        published(rates)
        raise StoreUnavailable

    meter = Meter(fail)
    meter._started = True
    meter.refused()
    meter.catch_up()
    meter._tell()
    meter._tell()
    assert published.rates == [{"refuse": 1}]


def test_notes_that_come_while_others_are_taken_stay() -> None:
    notes = deque([1, 2])
    assert taken(notes) == [1, 2]
    notes.append(3)
    assert taken(notes) == [3]
    assert taken(notes) == []


def test_a_script_without_an_answer_is_counted_as_that() -> None:
    assert outcome(["reserved", 1, 2], "store_unavailable") == "reserved"
    assert outcome(None, "store_unavailable") == "store_unavailable"
    assert outcome(ValueError("an error in a pipeline"), "inconsistent") == "inconsistent"
