"""Commands that run in this process, which is quicker, and what they print."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str


Command = Callable[..., Run]


def one_line(run: Run, code: int = 1) -> str:
    """The one line on stderr of a command that failed and printed nothing else."""
    assert run.code == code, run
    assert run.out == ""
    assert run.err.startswith("stockade: ")
    assert run.err.count("\n") == 1
    assert run.err.endswith("\n")
    return run.err
