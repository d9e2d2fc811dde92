"""One episode of `make chaos`, and the proof that its judge can say no."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.values import Operation, Origin
from loadtests.checker.history import Call, Loss, Outcome, read
from tests.chaos import judge
from tests.chaos.arena import Arena
from tests.chaos.buyers import SKUS
from tests.chaos.plan import Blow
from tests.chaos.run import Result, go_through

pytestmark = pytest.mark.slow

SEED = 4
EPISODE = (Blow("flushall", 0.2, 1), Blow("worker_killed", 0.1, 1), Blow("leading_keeper_killed", 0.0, 1))


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    directory = tmp_path_factory.mktemp("chaos")
    arena = Arena(directory, SEED)
    yield arena
    arena.stop()


def test_nothing_that_was_promised_is_lost_to_faults_under_load(arena: Arena) -> None:
    result = Result()
    go_through(arena, EPISODE, result)
    assert result.violations == []
    assert judge.history(arena)[0] == []
    assert sum(result.faults.values()) == len(EPISODE)
    assert {"reserve", "commit"} <= {operation for operation, outcome in arena.history.counts if outcome is Outcome.OK}


def test_the_judge_misses_a_unit(arena: Arena) -> None:
    arena.engine.stock.adjust(SKUS[-1], -1, Origin("thief"), "taken", Operation())
    assert [problem.partition(":")[0] for problem in judge.books(arena)] == ["conservation"]
    arena.engine.stock.adjust(SKUS[-1], 1, Origin("thief"), "given back", Operation())
    assert list(judge.books(arena)) == []


def test_the_judge_misses_a_paid_order_and_a_hold(arena: Arena) -> None:
    now_ms = arena.history.clock.now_ms()
    told = [
        Call(
            "reserve", 9, "ann", "k1", now_ms, now_ms + 1, Outcome.OK, "A" * 22, ((SKUS[9], 1),), int(now_ms) + 900_000
        ),
        Call("commit", 9, "bob", "p1", now_ms, now_ms + 1, Outcome.OK, "B" * 22),
    ]
    arena.history.calls += told
    found, _ = judge.history(arena)
    del arena.history.calls[-len(told) :]
    assert {violation.partition(":")[0] for violation in found} >= {"acknowledged"}
    assert any("A" * 22 in violation for violation in found)
    assert any("B" * 22 in violation for violation in found)


def test_an_answer_that_no_api_should_give_is_a_violation(arena: Arena) -> None:
    arena.history.strange.append("12: {'status': 500, 'code': 'internal_error'}")
    found, _ = judge.history(arena)
    arena.history.strange.clear()
    assert found == [
        "1 answers were 5xx, but not 503, or of other lines; the first at 12: {'status': 500, 'code': 'internal_error'}"
    ]


@pytest.mark.parametrize(("lost_ms", "wrong"), [(5_000.0, 0), (60_000.0, 1)])
def test_a_cart_may_have_lost_lines_with_a_redis_and_not_without(arena: Arena, lost_ms: float, wrong: int) -> None:
    arena.history.shortened.append((10_000.0, 10_010.0, "two lines asked, one"))
    arena.losses.append(Loss(lost_ms, lost_ms + 100))
    found = list(judge.strange(arena))
    arena.history.shortened.clear()
    arena.losses.pop()
    assert len(found) == wrong


def test_what_is_needed_to_find_out_is_kept(arena: Arena, tmp_path: Path) -> None:
    arena.keep(tmp_path / "kept")
    with (tmp_path / "kept" / "history.jsonl").open() as lines:
        assert list(read(lines)) == arena.history.calls
    assert (tmp_path / "kept" / "ledger.csv").read_text().count("\n") > len(SKUS)
    assert list((tmp_path / "kept").glob("redis-*/*.incr.aof"))
