"""What a check of the environment comes to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """`not asked` is where a server doesn't let itself be asked: no failure, and no promise either."""

    FINE = "fine"
    TO_DO = "to do"
    NOT_ASKED = "not asked"


@dataclass(frozen=True)
class Check:
    """`said` is what was seen, or what to do, or why it couldn't be seen. One line, without any secret."""

    name: str
    verdict: Verdict
    said: str


def fine(name: str, seen: object) -> Check:
    return Check(name, Verdict.FINE, str(seen))


def to_do(name: str, advice: str) -> Check:
    return Check(name, Verdict.TO_DO, advice)


def not_asked(name: str, why: str) -> Check:
    return Check(name, Verdict.NOT_ASKED, why)


def size(count: int) -> str:
    """Bytes for people."""
    number, units = float(count), ["KiB", "MiB", "GiB", "TiB"]
    if count < 1024:
        return f"{count} B"
    while units:
        number, unit = number / 1024, units.pop(0)
        if number < 1024:
            break
    return f"{number:.1f} {unit}"
