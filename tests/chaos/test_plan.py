from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.disks import APART
from tests.chaos.faults import FAULTS
from tests.chaos.makeup import MAKEUPS, SERVICE, Makeup, makeup, users
from tests.chaos.plan import MAX_AT_ONCE, plan
from tests.integration.guarded import ACL, API, FIRST_LINE, KEEPER

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
            assert len(set(targets)) == len(targets) <= MAX_AT_ONCE
            assert len(targets) == 1 or "everything" not in targets


def test_faults_strike_alone_in_pairs_and_in_threes() -> None:
    assert {len(episode) for seed in SEEDS for episode in plan(seed, list(FAULTS))} == {1, 2, 3}


def test_every_fault_says_what_it_does() -> None:
    assert all(fault.strike.__doc__ for fault in FAULTS.values())


def test_four_seeds_in_a_row_have_each_kind_of_redis_with_and_without_an_acl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.chaos.makeup.binary", lambda kind: kind)
    for seed in SEEDS:
        assert {makeup(seed + more) for more in range(4)} == {*MAKEUPS}
    monkeypatch.setattr("tests.chaos.makeup.binary", lambda kind: None if kind == "redis" else kind)
    assert {makeup(seed) for seed in SEEDS} == {Makeup("valkey"), Makeup("valkey", guarded=True)}


def test_up_s_user_has_the_rights_of_api_and_keeper_as_the_file_has_them() -> None:
    lines = {line.split()[1]: line for line in users().splitlines()}
    for line in ACL.splitlines():
        words = line.split()
        if words and words[1] in (API, KEEPER):
            assert " ".join(words[4:]) in lines[SERVICE]
    assert lines["default"] == FIRST_LINE


@pytest.mark.parametrize("name", ["data_disk_full", "log_disk_full"])
def test_a_disk_is_filled_only_where_the_run_has_its_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(APART, raising=False)
    assert "mount" in FAULTS[name].needs
    monkeypatch.setenv(APART, "1")
    assert FAULTS[name].needs == ""
