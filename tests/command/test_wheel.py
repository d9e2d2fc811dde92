from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.programs import needs

ROOT = Path(__file__).parents[2]
SCRIPTS = {f"lua/{path.name}" for path in (ROOT / "lua").glob("*.lua")}
LOOKS = {f"lua/look/{path.name}" for path in (ROOT / "lua" / "look").glob("*.lua")}
CONSOLE = {f"api/console/{path.name}" for path in (ROOT / "api" / "console").iterdir()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    copy = directory / "source"
    listed = [needs("git"), "ls-files", "--cached", "--others", "--exclude-standard"]
    for path in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_bytes((ROOT / path).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(directory), str(copy)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return next(directory.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_carries_every_script_and_module_and_no_test(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if name.endswith(".lua")} == SCRIPTS | LOOKS
    assert {name for name in names if name.startswith("api/console/")} == CONSOLE
    modules = {
        path.relative_to(ROOT).as_posix() for package in ("api", "engine") for path in (ROOT / package).rglob("*.py")
    }
    assert {name for name in names if name.endswith(".py") and not name.startswith("lua/")} == modules
    assert not [name for name in names if name.startswith(("tests/", "loadtests/"))]


@pytest.mark.slow
def test_the_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    code = "import engine.cli, engine.scripts as s; print(engine.cli.__file__, len(s.sources()))"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == [str(tmp_path / "site" / "engine" / "cli.py"), str(len(SCRIPTS))]
