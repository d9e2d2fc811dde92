"""What `stockade up` has to know of a server that it brings along. There are two: Postgres and Valkey."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.data_dir import DataDir
from engine.supervisor import Child


@dataclass(frozen=True)
class Embedded:
    """A server that runs under `up` unless the environment says in `variable` where another one is.

    `socket` is the place of its unix socket in the data directory; `url` and `child` get the place that came out.
    `child` also gets the descriptors that the server has to keep open, and raises ConfigurationError where it can't run.
    """

    variable: str
    socket: str
    url: Callable[[Path], str]
    child: Callable[[DataDir, Path, Sequence[int]], Child]
    answers: Callable[[str], bool]
