from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.cli import main
from tests import seed
from tests.command.running import Command, Run
from tests.command.service import Service

if not sys.platform.startswith("linux"):
    collect_ignore_glob = ["test_up*.py", "test_workers.py"]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service for the tests that leave it as it was: they use SKUs of their own."""
    running = Service(seed.plant(tmp_path_factory.mktemp("service") / "data of #1 %20 shop", tmp_path_factory))
    yield running
    assert running.stop() == 0


@pytest.fixture
def start(
    tmp_path: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Service]]:
    """Starts services of this test's own, and ends them after it. They begin with a schema, but where it's about how that is made."""
    started: list[Service] = []
    begins_from_nothing = "test_up_postgres" in request.module.__name__

    def start_one(data_dir: Path | None = None, workers: int = 1, **more: str) -> Service:
        where = data_dir or tmp_path / "data"
        if not begins_from_nothing and "STOCKADE_DATABASE_URL" not in more:
            seed.plant(where, tmp_path_factory)
        started.append(Service(where, {"STOCKADE_WORKERS": str(workers)} | more))
        return started[-1]

    yield start_one
    for running in started:
        running.stop()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process."""
    for name in [name for name in os.environ if name.startswith("STOCKADE_")]:
        monkeypatch.delenv(name)

    def run_one(*arguments: object) -> Run:
        monkeypatch.setattr(sys, "argv", ["stockade", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Run(int(ended.value.code or 0), printed.out, printed.err)

    return run_one
