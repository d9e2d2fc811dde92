"""Whether the fast tests notice a mutant: a worker keeps a copy of the tree and a warm process, of which it forks one for each.

What others wrote is imported once, what is ours in each fork, from the copy: so a mutant may be anywhere in a file, and
nobody's working tree is touched.
"""

from __future__ import annotations

import compileall
import importlib
import os
import py_compile
import shutil
import signal
import sys
import time
import traceback
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

OURS = ("api", "engine", "loadtests", "lua", "tests")
WARM = (
    *("fakeredis", "flask", "gunicorn.app.base", "hypothesis.stateful", "jwt", "lupa.lua51", "marshmallow", "orjson"),
    *("apispec", "flask_swagger_ui", "prometheus_client", "psycopg_pool", "redis.asyncio", "structlog"),
)
UNIT = (
    *(
        "tests/unit/test_engine.py",
        "tests/unit/test_carts.py",
        "tests/unit/test_payments.py",
        "tests/unit/test_levers.py",
    ),
    *("tests/unit/test_fold.py", "tests/unit/test_expiry.py", "tests/unit/test_pipe.py"),
)
API = (
    *("orders", "stock", "reservations", "carts", "availability", "webhook", "batch", "idempotency", "default_hold"),
    *("ownership", "operation", "bad_input"),
)
"""Files of tests/api in which something is sold."""

ROWS = ("tests/unit/test_scripts.py",)
MORE = ("tests/mutation/machine.py", *(f"tests/api/test_{name}.py" for name in API))
TRIMMED = ("tests/integration/test_scripts.py",)
"""Only a stream of thousands of events is ever trimmed."""

TEST_SECONDS = 30
MUTANT_SECONDS = 900.0
SURVIVED, KILLED, BROKEN, TOO_LONG = 0, 1, 70, 71
FIRST_FAILURE, RUNNING = "first_failure", "running"
"""Files in which the child says which test it is."""


@dataclass(frozen=True)
class Place:
    """Where a worker works: a directory for its copy, and a server that nobody else uses."""

    directory: str
    redis_url: str


@dataclass(frozen=True)
class Verdict:
    """`by` is the test that failed first, '' if none did."""

    by: str
    seconds: float


Stages = tuple[tuple[str, ...], ...]


def suite(path: str) -> Stages:
    """Files of tests, stage by stage: a mutant that is noticed early isn't worth importing the rest for."""
    own = f"tests/unit/test_{Path(path).stem}.py"
    unit = tuple(sorted(UNIT, key=lambda name: name != own))
    if path == "lua/trim.lua":
        return (ROWS, TRIMMED, unit, MORE)
    return (ROWS, unit, MORE) if path.endswith(".lua") else (unit, ROWS, MORE)


def copy(root: Path, directory: Path) -> None:
    """The tree as it is now, compiled so that a file is compiled again if its content differs, whatever its date."""
    unwanted = shutil.ignore_patterns(".*", "build", "__pycache__", "*.egg-info")
    shutil.copytree(root, directory, ignore=unwanted)
    for package in OURS:
        compileall.compile_dir(
            directory / package, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
        )


def warm_up() -> None:
    sys.dont_write_bytecode = True
    for name in WARM:
        importlib.import_module(name)


def judge(place: Place, path: str, text: str, stages: Stages) -> Verdict:
    """Run these tests, as if the file at `path` had this text, until the first that fails.

    Raises RuntimeError if pytest ended in any way but by a test that failed, that couldn't be imported, or that took too long.
    """
    began_s = time.monotonic()
    file = Path(place.directory, path)
    right = file.read_text()
    file.write_text(text)
    try:
        by = _run(place, path, stages)
    finally:
        file.write_text(right)
    return Verdict(by, time.monotonic() - began_s)


def _run(place: Place, path: str, stages: Stages) -> str:
    said, running = Path(place.directory, FIRST_FAILURE), Path(place.directory, RUNNING)
    said.unlink(missing_ok=True)
    running.write_text("imports")
    child = os.fork()
    if child == 0:
        # Whatever happens, it must not go on as the worker.
        try:
            os._exit(_tested(place, path, stages))
        except BaseException:
            traceback.print_exc()
            os._exit(BROKEN)
    code = _waited(child)
    if code == SURVIVED:
        return ""
    if said.exists() and code in (KILLED, pytest.ExitCode.INTERRUPTED):
        return said.read_text()
    if code in (KILLED, TOO_LONG):
        return f"time ran out in {running.read_text()}"
    output = Path(place.directory, "output").read_text()
    if code == pytest.ExitCode.USAGE_ERROR and "ImportError while loading conftest" in output:
        return "import of a conftest.py"
    raise RuntimeError(f"pytest ended with {code}:\n{output[-2_000:]}")


def _waited(child: int) -> int:
    """The code with which it ended, below 0 if a signal did it."""
    until_s = time.monotonic() + MUTANT_SECONDS
    while time.monotonic() < until_s:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return TOO_LONG


def _tested(place: Place, path: str, stages: Stages) -> int:
    output = os.open(f"{place.directory}/output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.chdir(place.directory)
    for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
        del sys.modules[name]
    sys.path.insert(0, place.directory)
    options = ["-x", "-q", "-c", "setup.cfg", "--rootdir", ".", "-o", "addopts=", "--strict-markers"]
    options += ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:schemathesis", "--tb", "short"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    options += [f"--timeout={TEST_SECONDS}", "--timeout-method=thread"]
    for stage in stages:
        code = int(pytest.main([*options, *stage], plugins=[_Plugin(place, path)]))
        sys.stdout.flush()
        if code != SURVIVED:
            return code
    return SURVIVED


class _Plugin:
    def __init__(self, place: Place, path: str) -> None:
        self._place = place
        self._script = Path(path).stem if path.endswith(".lua") else ""
        self._said = Path(place.directory, FIRST_FAILURE)
        self._running = Path(place.directory, RUNNING)

    def pytest_sessionstart(self) -> None:
        """Tests that ask for servers get the one that runs already."""
        servers: Any = importlib.import_module("loadtests.servers")
        servers.KINDS = ("valkey",)
        servers = importlib.import_module("tests.servers")
        servers.running = lambda kind, *options: nullcontext(self._place.redis_url)

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items.sort(key=lambda item: not self._is_of_the_script(item))

    def _is_of_the_script(self, item: Any) -> bool:
        row = item.callspec.params.get("row") if hasattr(item, "callspec") else None
        return bool(row and row.call.script == self._script)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._running.write_text(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self._said.exists():
            self._said.write_text(report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and not self._said.exists():
            self._said.write_text(f"import of {report.nodeid}")
