"""An interrupt that only `make` got, as from `kill -INT` of its process: make hands it to nobody, and waits for its recipe."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

LOOK_SECONDS = 0.2
SIGINT_BIT = 1 << (signal.SIGINT - 1)


def watch_make(interrupted: Callable[[], bool]) -> None:
    """Interrupt this process once the make that runs it was: unless it was `interrupted` itself, as by a terminal's Ctrl-C.

    make (GNU, commands.c) gives the signal its default action as it takes it, which /proc shows. Elsewhere nothing is watched.
    """
    if make := _make():
        threading.Thread(target=_watch, args=(make, interrupted), daemon=True).start()


def _make() -> int:
    """The make whose recipe this is, perhaps by a shell; 0 without one, or if it ignores interrupts."""
    parent = os.getppid()
    for pid in (parent, int(_status(parent).get("PPid", "0"))):
        if _status(pid).get("Name", "").endswith("make") and catches_interrupt(pid):
            return pid
    return 0


def _watch(make: int, interrupted: Callable[[], bool]) -> None:
    while catches_interrupt(make):
        time.sleep(LOOK_SECONDS)
    # A terminal interrupts both; ours may be a moment later.
    time.sleep(LOOK_SECONDS)
    if _status(make) and not interrupted():
        os.kill(os.getpid(), signal.SIGINT)


def catches_interrupt(pid: int) -> bool:
    """Whether the process has a handler for SIGINT."""
    return bool(int(_status(pid).get("SigCgt", "0"), 16) & SIGINT_BIT)


def _status(pid: int) -> dict[str, str]:
    """What /proc says of it, nothing if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
