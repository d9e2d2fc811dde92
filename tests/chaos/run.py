"""`make chaos`: seeded faults under load, every invariant after each, and a summary. One seed stands for one plan."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.servers import KINDS
from tests.chaos import judge
from tests.chaos.arena import Arena
from tests.chaos.disks import go_apart
from tests.chaos.faults import FAULTS
from tests.chaos.makeup import Makeup
from tests.chaos.plan import EPISODES, Blow, Episode, plan

KEPT = Path("build/chaos")
"""Where a run that failed leaves its seed, history, AOF, ledger and logs."""

LOAD_SECONDS = 1.5
"""Of trade before the blows of each episode; half of it after they are over."""


@dataclass
class Result:
    """Of one run or of several. `recoveries` are seconds from the end of an episode's faults to the next paid order.

    `noticed_s`: how long each damage that nothing dies of took to be told.
    """

    seconds: float = 0.0
    runs: int = 0
    episodes: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    recoveries: list[tuple[float, tuple[str, ...]]] = field(default_factory=list)
    noticed_s: list[float] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def add(self, other: Result) -> None:
        self.seconds += other.seconds
        self.runs += other.runs
        self.episodes += other.episodes
        self.faults += other.faults
        self.operations.update(other.operations)
        self.recoveries += other.recoveries
        self.noticed_s += other.noticed_s
        self.violations += other.violations


def run(seed: int, names: list[str], episodes: int, made_of: Makeup | None = None) -> Result:
    """One plan, in an arena of its own; of the seed's makeup, if no other is wanted."""
    result, began_s = Result(runs=1), time.monotonic()
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="stockade-chaos-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        directory.chmod(0o755)
        arena = Arena(directory, seed, made_of)
        stack.callback(arena.stop)
        print(f"seed {seed:<4} {arena.made_of}", flush=True)
        try:
            for number, episode in enumerate(plan(seed, names, episodes), 1):
                go_through(arena, episode, result)
                _show(seed, number, episode, result)
                if result.violations:
                    break
        except Exception:
            result.violations.append(f"the run of seed {seed} came to no end: {traceback.format_exc()}")
            arena.stop_trading()
            _judge(result, lambda: (list(judge.books(arena)), Counter()))
        _judge(result, lambda: judge.history(arena))
        _count(arena, result)
        result.noticed_s += [(hurt.told_ms - hurt.from_ms) / 1000 for hurt in arena.hurts]
        if result.violations:
            _keep(arena, seed, names, episodes, result)
    result.seconds = time.monotonic() - began_s
    return result


def _judge(result: Result, judged: Callable[[], tuple[list[str], Counter[str]]]) -> None:
    """Add what a judge finds, also that it can't: what a run without an end has left may be beyond all judging."""
    try:
        wrong, counts = judged()
    except Exception:
        wrong, counts = [f"it can't be judged: {traceback.format_exc()}"], Counter()
    result.violations += wrong
    result.operations.update(counts)


def go_through(arena: Arena, episode: Episode, result: Result) -> None:
    """Trade, strike, trade on until it works again and some time after, then judge."""
    arena.open()
    time.sleep(LOAD_SECONDS)
    times_empty = arena.redis.times_empty
    struck_ms, failures = strike(arena, episode)
    over_s = time.monotonic()
    arena.wait_until_ready(may_fork=any(FAULTS[blow.fault].may_fork for blow in episode))
    result.recoveries.append((time.monotonic() - over_s, tuple(blow.fault for blow in episode)))
    empty = arena.redis.times_empty > times_empty
    losing = [struck_ms[blow.fault] for blow in episode if FAULTS[blow.fault].loses or empty]
    kept_back = [struck_ms[blow.fault] for blow in episode if FAULTS[blow.fault].keeps_back]
    if losing:
        arena.note_loss(min(losing + kept_back))
    time.sleep(LOAD_SECONDS / 2)
    arena.close()
    result.episodes += 1
    result.faults.update(blow.fault for blow in episode)
    result.violations += [*failures, *judge.books(arena)]


def strike(arena: Arena, episode: Episode) -> tuple[dict[str, float], list[str]]:
    """Let all blows fall, and wait until each is over.

    Returns: when each fell, by the buyers' clock; and what could not be dealt.
    """
    struck_ms: dict[str, float] = {}
    failures: list[str] = []

    def deal(blow: Blow) -> None:
        time.sleep(blow.after_s)
        struck_ms[blow.fault] = arena.history.clock.now_ms()
        try:
            FAULTS[blow.fault].strike(arena, random.Random(blow.seed))
        except Exception:
            failures.append(f"{blow.fault} failed: {traceback.format_exc()}")

    for blow in [arena.hands.submit(deal, blow) for blow in episode]:
        blow.result()
    return struck_ms, failures


def _count(arena: Arena, result: Result) -> None:
    result.operations["operations"] += len(arena.history.calls)
    result.operations["unknown outcomes"] += arena.history.unknown
    for (operation, outcome), count in arena.history.counts.items():
        result.operations[f"{operation} {outcome}"] += count
    result.operations["forks that a person decided"] += arena.forks_decided
    result.operations["times that Redis was started empty"] += arena.redis.times_empty
    if result.episodes >= EPISODES and not arena.history.codes["lines_unavailable"]:
        result.violations.append("nobody was refused for want of stock: this run says nothing of what is scarce")


def _keep(arena: Arena, seed: int, names: list[str], episodes: int, result: Result) -> None:
    place = KEPT / f"seed-{seed}"
    shutil.rmtree(place, ignore_errors=True)
    arena.stop_trading()
    arena.keep(place)
    found = [
        f"seed {seed}, {arena.made_of}",
        *map(str, plan(seed, names, episodes)),
        *map(str, (*arena.losses, *arena.skews)),
    ]
    found += [*result.violations, *arena.history.strange]
    (place / "found.txt").write_text("\n".join(found) + "\n")
    print(f"kept for a look: {place}", flush=True)


def _show(seed: int, number: int, episode: Episode, result: Result) -> None:
    names = " + ".join(blow.fault for blow in episode)
    word = f"{len(result.violations)} VIOLATIONS" if result.violations else "ok"
    print(f"seed {seed:<4} {number:>2}  back after {result.recoveries[-1][0]:6.2f} s  {word:6}  {names}", flush=True)


def summary(result: Result) -> str:
    """What was done and found, for people."""
    lines = [f"{'fault':32} {'times':>5} {'alone':>5} {'back after (median)':>20} {'at most':>9}"]
    for name in FAULTS:
        alone = sorted(seconds for seconds, names in result.recoveries if names == (name,))
        back = f"{_percentile(alone, 50):18.2f} s {alone[-1]:7.2f} s" if alone else f"{'-':>20} {'-':>9}"
        lines.append(f"{name:32} {result.faults[name]:>5} {len(alone):>5} {back}")
    every = sorted(seconds for seconds, _ in result.recoveries)
    lines += [f"{name:34} {count:>9}" for name, count in sorted(result.operations.items())]
    lines += [
        f"runs {result.runs}, episodes {result.episodes}, faults {result.faults.total()}, {result.seconds / 60:.1f} minutes",
        f"back after: p50 {_percentile(every, 50):.2f} s, p99 {_percentile(every, 99):.2f} s" if every else "",
        f"damage told or right again: {len(result.noticed_s)} times, p50 {_percentile(sorted(result.noticed_s), 50):.2f} s, "
        f"longest {max(result.noticed_s):.2f} s of {judge.NOTICED_MS / 1000:g} s"
        if result.noticed_s
        else "",
        f"violations {len(result.violations)}",
    ]
    return "\n".join(lines)


def _percentile(ordered: list[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--time", type=float, default=0, help="seconds: go on with the next seeds until then; 0: one seed"
    )
    parser.add_argument("--episodes", type=int, default=EPISODES)
    parser.add_argument(
        "--server", choices=KINDS, help="which kind of Redis; else the seed says which, and whether with an ACL"
    )
    parser.add_argument("--acl", action="store_true", help="with --server: the users of docs/deploy/redis.acl")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="only these")
    chosen = parser.parse_args()
    # What was started ends with the run, also when somebody ends that.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    go_apart()
    names = [name for name in chosen.fault or FAULTS if not FAULTS[name].needs]
    for name in chosen.fault or FAULTS:
        if FAULTS[name].needs:
            print(f"{name} is left out: {FAULTS[name].needs}")
    made_of = Makeup(chosen.server, chosen.acl) if chosen.server else None
    total, seed, until_s = Result(), chosen.seed, time.monotonic() + chosen.time
    while not total.runs or time.monotonic() < until_s:
        total.add(run(seed, names, chosen.episodes, made_of))
        seed += 1
    for violation in total.violations[:50]:
        print(violation)
    print(summary(total))
    sys.exit(1 if total.violations else 0)


if __name__ == "__main__":
    main()
