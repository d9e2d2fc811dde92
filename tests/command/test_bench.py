from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.servers import binary

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_quick_run_measures_the_service_itself_and_keeps_what_it_found(tmp_path: Path) -> None:
    kind = "redis" if binary("redis") else "valkey"
    command = [sys.executable, "-m", "loadtests.bench", "http", "--quick", "--server", kind, "--into", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    assert "HTTP reserve / Flask hello" in done.stdout
    assert ">= 1.8" in done.stdout
    [kept] = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    measured = [figure["name"] for figure in kept["figures"] if figure["unit"] == "/s"]
    assert len(measured) == 5
    assert {"flask hello", "reserve"} < set(measured)
