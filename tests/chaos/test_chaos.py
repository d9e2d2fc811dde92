"""A short selection of `make chaos`, and the proof that its judge can say no."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from engine.values import Operation, Origin
from tests.chaos.arena import Arena
from tests.chaos.buyers import SKUS, Told
from tests.chaos.run import strike

SELECTION = ("aof_tail_cut", "flushall", "postgres_killed", "leading_keeper_killed", "api_worker_killed")
SECONDS = 1.0
SEED = 4


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    arena = Arena(tmp_path_factory.mktemp("chaos"), SEED)
    yield arena
    arena.stop()


@pytest.mark.parametrize("name", SELECTION)
def test_nothing_that_was_promised_is_lost_to_a_fault_under_load(arena: Arena, name: str) -> None:
    done = strike(arena, name, random.Random(SEED), SECONDS)
    assert done.judgement.violations == ()
    assert done.per_second > 0
    assert done.paid_per_second > 0


def test_the_judge_misses_a_paid_order_a_hold_and_a_unit(arena: Arena) -> None:
    now_s = time.time()
    arena.book.told |= {
        "paid": Told("paid", "ann", now_s, now_s + 900, "p1", paid=True),
        "held": Told("held", "ann", now_s - 3, now_s + 900),
    }
    arena.engine.stock.adjust(SKUS[0], -1, Origin("thief"), "taken", Operation())
    violations = arena.judge(now_s).violations
    assert any(violation.startswith("a paid order is gone: Told(id='paid'") for violation in violations)
    assert any(violation.startswith("a hold confirmed 3.0") for violation in violations)
    assert any(violation.startswith("stock: Sku(sku='chaos-00', on_hand=499") for violation in violations)
    arena.engine.stock.adjust(SKUS[0], 1, Origin("thief"), "given back", Operation())
    assert arena.judge(now_s).violations == ()
