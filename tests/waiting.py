"""Waiting for a condition instead of for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], seconds: float = 15.0) -> T:
    """Ask until the answer is true, and give it back. Fails after `seconds`."""
    give_up_s = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < give_up_s, f"it did not come true within {seconds} s"
        time.sleep(0.01)
    return answer
