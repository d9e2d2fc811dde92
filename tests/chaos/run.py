"""`make chaos`: faults under load, one after the other, in an order that a seed decides; a table at the end."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.arena import Arena, Judgement
from tests.chaos.faults import FAULTS

LOAD_SECONDS = 3.0
"""Of trade before each fault, and after it."""


@dataclass(frozen=True)
class Round:
    fault: str
    per_second: float
    paid_per_second: float
    recovery_s: float
    unclear: int
    judgement: Judgement


def strike(arena: Arena, name: str, pick: random.Random, seconds: float = LOAD_SECONDS) -> Round:
    """Trade, strike, trade on until it works again and some time after, then judge."""
    arena.open()
    before, began_s = arena.book.counts.copy(), time.monotonic()
    time.sleep(seconds)
    took_s, counts = time.monotonic() - began_s, arena.book.counts.copy()
    struck_s = FAULTS[name](arena, pick)
    ended_s = time.monotonic()
    arena.wait_until_ready()
    recovery_s = time.monotonic() - ended_s
    time.sleep(seconds / 2)
    arena.close()
    return Round(
        name,
        (counts["checkouts"] - before["checkouts"]) / took_s,
        (counts["paid"] - before["paid"]) / took_s,
        recovery_s,
        arena.book.counts["unclear"] - counts["unclear"],
        arena.judge(struck_s),
    )


def run(seed: int, seconds: float, names: list[str]) -> list[Round]:
    """Strike with each fault once, then again in another order, until time is over."""
    directory = Path(tempfile.mkdtemp(prefix="stockade-chaos-"))
    pick, rounds = random.Random(seed), []
    arena = Arena(directory, seed)
    give_up_s = time.monotonic() + seconds
    try:
        while not rounds or time.monotonic() < give_up_s:
            order = list(names)
            pick.shuffle(order)
            for name in order:
                rounds.append(strike(arena, name, pick))
                _show(rounds[-1])
    finally:
        arena.stop()
    if any(round_.judgement.violations for round_ in rounds):
        print(f"kept for a look: {directory}")
    else:
        shutil.rmtree(directory)
    return rounds


def main() -> None:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--time", type=float, default=0, help="seconds; 0: every fault once")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="only these")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}")
    print(
        f"{'fault':26} {'checkouts/s':>11} {'paid/s':>7} {'back after':>10} {'unclear':>8} {'holds lost':>10} {'oldest':>7}  verdict"
    )
    rounds = run(chosen.seed, chosen.time, chosen.fault or list(FAULTS))
    failed = [round_ for round_ in rounds if round_.judgement.violations]
    for round_ in failed:
        for violation in round_.judgement.violations[:20]:
            print(f"{round_.fault}: {violation}")
    print(f"{len(rounds)} faults, {len(failed)} with violations")
    sys.exit(1 if failed else 0)


def _show(done: Round) -> None:
    judgement = done.judgement
    verdict = f"{len(judgement.violations)} violations" if judgement.violations else "ok"
    print(
        f"{done.fault:26} {done.per_second:11.0f} {done.paid_per_second:7.0f} {done.recovery_s:8.2f} s {done.unclear:8} "
        f"{judgement.holds_lost:10} {judgement.oldest_lost_s:5.2f} s  {verdict}",
        flush=True,
    )


if __name__ == "__main__":
    main()
