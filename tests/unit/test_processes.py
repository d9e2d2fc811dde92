"""Which processes are this Stockade's, on a machine that has others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.processes import find
from tests.waiting import wait_until


@pytest.mark.parametrize("url", ["redis://shop:secret@127.0.0.1:99999/0", "redis://[::1", "nonsense", ""])
def test_a_process_with_an_address_that_leads_nowhere_is_none_of_ours(tmp_path: Path, url: str) -> None:
    command = [sys.executable, "-c", "print(flush=True); input()", "keeper"]
    environment = os.environ | {"STOCKADE_REDIS_URL": url, "STOCKADE_DATA_DIR": str(tmp_path / "elsewhere")}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        wait_until(lambda: other.stdout is not None and other.stdout.readline())
        found = find(tmp_path, "redis://127.0.0.1:6379/0")
        other.communicate(b"\n")
    assert other.pid not in [process.pid for process in found]
