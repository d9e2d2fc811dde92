"""One change of a source that ought to be noticed."""

from __future__ import annotations

import difflib
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """`source[start:end]` of the file at `path` becomes `wrong`. Two with the same effect are equal to nobody's use."""

    path: str
    kind: str
    start: int
    end: int
    wrong: str

    def of(self, source: str) -> str:
        return source[: self.start] + self.wrong + source[self.end :]

    def line(self, source: str) -> int:
        return source.count("\n", 0, self.start) + 1

    def changed(self, source: str) -> tuple[str, str]:
        """The lines that differ, before and after, without what is around them."""
        first = source.rfind("\n", 0, self.start) + 1
        last = source.find("\n", self.end)
        after = source[first : self.start] + self.wrong + source[self.end : last]
        return _plain(source[first:last]), _plain(after)

    def diff(self, source: str) -> list[str]:
        lines = difflib.unified_diff(source.splitlines(), self.of(source).splitlines(), lineterm="", n=0)
        return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def _plain(text: str) -> str:
    return " ".join(text.split())
