"""One keeper leads; when it dies, stands still or stops, another one goes on, and nothing is written twice."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.keeper import BEAT_SECONDS, LEASE_SECONDS, Keeper
from tests.conftest import SECRETS
from tests.integration.shops import Shop, assert_written, one_kind
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
TAKES_OVER_SECONDS = 5.0


class KeeperProcess:
    """A real `stockade keeper`; what it logs goes to a file."""

    def __init__(self, redis_url: str, database_url: str, output: Path) -> None:
        self.output = output
        ours = {name: value for name, value in os.environ.items() if not name.startswith("STOCKADE_")}
        environment = ours | SECRETS | {"STOCKADE_REDIS_URL": redis_url, "STOCKADE_DATABASE_URL": database_url}
        with output.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "engine.cli", "keeper", "--data-dir", str(output.with_suffix(".data"))],
                env=environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    def said(self, event: str) -> int:
        return len(re.findall(rf'"event": ?"{event}"', self.output.read_text()))

    @property
    def leads(self) -> bool:
        return self.said("leading") > self.said("standing_by")

    def signal(self, how: signal.Signals) -> None:
        self.process.send_signal(how)


@pytest.fixture
def keepers(server: str, opening: Callable[..., Shop], books_url: str, tmp_path: Path) -> Iterator[list[KeeperProcess]]:
    """Two of them, the leader first."""
    opening()
    running = [KeeperProcess(server, books_url, tmp_path / f"keeper-{number}.log") for number in range(2)]
    try:
        wait_until(lambda: any(keeper.leads for keeper in running))
        yield sorted(running, key=lambda keeper: not keeper.leads)
    finally:
        for keeper in running:
            keeper.process.kill()
            keeper.process.wait()


@pytest.fixture
def watched(opening: Callable[..., Shop], keepers: list[KeeperProcess]) -> Shop:
    """The shop that they look after, once it is open."""
    shop = opening()
    wait_until(lambda: shop.engine.gate() == "open")
    shop.stock()
    wait_until(lambda: written(shop))
    return shop


def written(shop: Shop) -> bool:
    """Whether somebody has carried everything over."""
    return shop.position().seq == int(shop.engine.store.meta()["seq"])


def test_the_leader_that_is_killed_is_followed_by_the_other(watched: Shop, keepers: list[KeeperProcess]) -> None:
    leader, other = keepers
    assert not other.leads
    leader.signal(signal.SIGKILL)
    killed_s = time.monotonic()
    watched.hold()
    wait_until(lambda: written(watched))
    assert time.monotonic() - killed_s < TAKES_OVER_SECONDS
    assert other.leads
    assert watched.problems() == ()
    assert_written(watched)


def test_a_leader_that_stood_still_stands_by_when_it_goes_on(watched: Shop, keepers: list[KeeperProcess]) -> None:
    leader, other = keepers
    leader.signal(signal.SIGSTOP)
    for number in range(50):
        watched.hold(f"u{number}")
    wait_until(lambda: other.leads)
    wait_until(lambda: written(watched))
    leader.signal(signal.SIGCONT)
    wait_until(lambda: leader.said("standing_by") == 1)
    for number in range(50):
        watched.hold(f"v{number}")
    wait_until(lambda: written(watched))
    assert (other.leads, leader.leads) == (True, False)
    assert watched.problems() == ()
    assert_written(watched)


@one_kind
def test_a_leader_that_stops_hands_over_at_once(watched: Shop, keepers: list[KeeperProcess]) -> None:
    leader, other = keepers
    leader.signal(signal.SIGTERM)
    assert leader.process.wait(10) == 0
    stopped_s = time.monotonic()
    watched.hold()
    wait_until(lambda: other.leads)
    assert time.monotonic() - stopped_s < BEAT_SECONDS + 0.5 < LEASE_SECONDS
    wait_until(lambda: written(watched))
    assert_written(watched)


@one_kind
def test_of_three_keepers_one_leads_at_any_time(opening: Callable[..., Shop]) -> None:
    keepers = [Keeper(opening().engine) for _ in range(3)]
    threads = [threading.Thread(target=keeper.run, daemon=True) for keeper in keepers]
    for thread in threads:
        thread.start()
    shop = opening()
    most = 0
    try:
        wait_until(lambda: shop.engine.gate() == "open")
        shop.stock()
        for keeper in keepers[:2]:
            for _ in range(20):
                most = max(most, sum(each.leads() for each in keepers))
                shop.hold()
            keeper.stop()
            wait_until(lambda: any(each.leads() for each in keepers if not each.stopping))
        wait_until(lambda: written(shop))
    finally:
        for keeper in keepers:
            keeper.stop()
        for thread in threads:
            thread.join(20)
    assert most == 1
    assert_written(shop)
