from __future__ import annotations

from collections import Counter

from tests.chaos.faults import FAULTS
from tests.chaos.plan import MOST_AT_ONCE, plan

SEEDS = range(1, 41)


def test_a_seed_is_one_plan() -> None:
    assert plan(7, list(FAULTS)) == plan(7, list(FAULTS))
    assert plan(7, list(FAULTS)) != plan(8, list(FAULTS))


def test_over_forty_seeds_every_fault_strikes_ten_times_and_nearly_as_often_as_any_other() -> None:
    struck = Counter(blow.fault for seed in SEEDS for episode in plan(seed, list(FAULTS)) for blow in episode)
    assert struck.keys() == FAULTS.keys()
    assert min(struck.values()) >= 10
    assert max(struck.values()) - min(struck.values()) <= 1


def test_faults_of_one_episode_never_hit_the_same_target() -> None:
    for seed in SEEDS:
        for episode in plan(seed, list(FAULTS)):
            targets = [FAULTS[blow.fault].target for blow in episode]
            assert len(set(targets)) == len(targets) <= MOST_AT_ONCE
            assert len(targets) == 1 or "everything" not in targets


def test_faults_strike_alone_in_pairs_and_in_threes() -> None:
    assert {len(episode) for seed in SEEDS for episode in plan(seed, list(FAULTS))} == {1, 2, 3}


def test_every_fault_says_what_it_does() -> None:
    assert all(fault.strike.__doc__ for fault in FAULTS.values())
