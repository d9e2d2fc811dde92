"""All mutants there are, and a sample of them that a seed decides: every file has its share, and in it every kind."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.mutation import lua, python
from tests.mutation.mutant import Mutant

ROOT = Path(__file__).parents[2]
ENGINE = (*("reservations", "expiry", "payments", "orders", "stock", "carts", "fold", "replies"),)
"""Modules that decide, and that the fast tests reach: the writer and the recovery do nothing without a Postgres."""

LEAST = 3
"""Mutants of a file in a sample, if it has as many."""

SHARED = re.compile(r"^local now_ms = math\.max\([^\n]*\n|^local done = .*?\nend\n", re.MULTILINE | re.DOTALL)
"""The clock and the replay, which the house rules keep the same in all scripts, letter for letter: one stands for all."""


def paths() -> list[str]:
    scripts = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "lua").glob("*.lua"))
    return [*scripts, *(f"engine/{name}.py" for name in ENGINE)]


def sources() -> dict[str, str]:
    return {path: (ROOT / path).read_text() for path in paths()}


def mutants(path: str, source: str) -> list[Mutant]:
    """Every one, in the order of the file; of those that come to the same text the first."""
    make = lua.mutants if path.endswith(".lua") else python.mutants
    by_text: dict[str, Mutant] = {}
    for mutant in make(path, source):
        by_text.setdefault(mutant.of(source), mutant)
    return sorted(by_text.values(), key=lambda mutant: (mutant.start, mutant.end, mutant.wrong))


def all_mutants(given: Mapping[str, str]) -> dict[str, list[Mutant]]:
    """Those of every file; of what scripts share those of the first one that has it."""
    owners: dict[str, str] = {}
    for path, source in given.items():
        for shared in SHARED.findall(source):
            owners.setdefault(shared, path)
    found = {}
    for path, source in given.items():
        others = [match.span() for match in SHARED.finditer(source) if owners[match[0]] != path]
        found[path] = [mutant for mutant in mutants(path, source) if not any(a <= mutant.start < b for a, b in others)]
    return found


def drawn(all_of: Mapping[str, list[Mutant]], count: int, seed: int) -> list[Mutant]:
    """`count` of them, some more or less: each file has a share, `LEAST` at least."""
    whole = sum(len(found) for found in all_of.values())
    chance = random.Random(seed)
    return [
        mutant
        for path in sorted(all_of)
        for mutant in _of_each_kind(all_of[path], max(LEAST, round(count * len(all_of[path]) / whole)), chance)
    ]


def _of_each_kind(found: Iterable[Mutant], count: int, chance: random.Random) -> list[Mutant]:
    by_kind: dict[str, list[Mutant]] = defaultdict(list)
    for mutant in found:
        by_kind[mutant.kind].append(mutant)
    for kind in sorted(by_kind):
        chance.shuffle(by_kind[kind])
    picked: list[Mutant] = []
    while len(picked) < count and any(by_kind.values()):
        for kind in sorted(by_kind):
            if by_kind[kind] and len(picked) < count:
                picked.append(by_kind[kind].pop())
    return sorted(picked, key=lambda mutant: (mutant.start, mutant.end, mutant.wrong))
