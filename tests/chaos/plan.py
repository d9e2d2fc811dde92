"""What a seed stands for: which faults strike, at which moment, together with which others."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.faults import FAULTS

EPISODES = 6
FAULTS_EACH = 2.25
"""On average. Some episodes have one, some three."""

MAX_AT_ONCE = 3
WITHIN_SECONDS = 2.0
"""Faults of one episode strike within this time of each other."""


@dataclass(frozen=True)
class Blow:
    """One fault, so many seconds after the first moment at which one may strike. `seed` is for what it picks itself."""

    fault: str
    after_s: float
    seed: int


Episode = tuple[Blow, ...]


def plan(seed: int, names: Sequence[str], episodes: int = EPISODES) -> list[Episode]:
    """Episodes of one run. Over seeds that follow each other, every name comes equally often."""
    pick = random.Random(seed)
    many = round(episodes * FAULTS_EACH)
    drawn = [names[(seed * many + number) % len(names)] for number in range(many)]
    pick.shuffle(drawn)
    together: list[list[str]] = [[] for _ in range(episodes)]
    for name in sorted(drawn, key=lambda name: FAULTS[name].target != "everything"):
        fitting = [group for group in together if _fits(name, group)]
        if not fitting:
            together.append([])
            fitting = together[-1:]
        pick.choice(fitting).append(name)
    pick.shuffle(together)
    return [
        tuple(Blow(name, round(pick.random() * WITHIN_SECONDS, 2), pick.randrange(2**32)) for name in group)
        for group in together
        if group
    ]


def _fits(name: str, group: list[str]) -> bool:
    """Whether it may strike at the same time as those."""
    targets = {FAULTS[other].target for other in group}
    if "everything" in targets or (group and FAULTS[name].target == "everything"):
        return False
    return len(group) < MAX_AT_ONCE and FAULTS[name].target not in targets
