"""Whether `make chaos` can say no: defects planted into a copy of the product, one at a time, each to be found.

    python -m tests.chaos.sabotage ["name of a defect" …]

What it found last is in docs/sabotage.md.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from engine.invariants import Invariant
from tests.chaos.defects import DEFECTS, Defect
from tests.chaos.run import KEPT

ROOT = Path(__file__).parents[2]
COPIED = ("api", "docs", "engine", "loadtests", "lua", "tests")
LONGEST_SECONDS = 300
NO_END = "came to no end"
"""A run in which the service is never ready again says that, and names no invariant."""


@dataclass(frozen=True)
class Verdict:
    """`found` counts violations by invariant. `seconds` are those of the whole run, which ends after the first bad episode."""

    seconds: float
    found: Counter[str]
    last_words: str

    def catches(self, defect: Defect) -> bool:
        """Whether the defect was found by what it breaks; what stands still for another reason proves nothing."""
        return bool(self.found.keys() & set(defect.breaks))


def plant(defect: Defect, place: Path) -> None:
    """Copy the product to a directory, with the defect in it."""
    for name in COPIED:
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for change in defect.changes:
        path = place / change.path
        path.write_text(change.planted(path.read_text()))


def judge(defect: Defect) -> Verdict:
    """Run chaos on the product with the defect in it."""
    with tempfile.TemporaryDirectory(prefix="stockade-sabotage-") as directory:
        plant(defect, Path(directory))
        command = [sys.executable, "-m", "tests.chaos.run", *defect.options]
        began_s = time.monotonic()
        environment = os.environ | {"PYTHONPATH": directory}
        chaos = subprocess.Popen(
            command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            said, _ = chaos.communicate(timeout=LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            # So it ends what it has started.
            chaos.send_signal(signal.SIGINT)
            said = f"it {NO_END}\n" + chaos.communicate()[0]
        seconds = time.monotonic() - began_s
        kept = Path(directory) / KEPT / f"seed-{defect.seed}" / "found.txt"
        said = kept.read_text() if kept.exists() else said
    return Verdict(seconds, named(said), "\n".join(said.splitlines()[-60:]))


def named(said: str) -> Counter[str]:
    """How often each invariant begins a line."""
    names = re.findall(r"^([a-z_]+): ", said, re.MULTILINE)
    found = Counter(name for name in names if name in set(Invariant))
    return found + Counter({NO_END: said.count(NO_END)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only these defects")
    parser.add_argument("--show", action="store_true", help="also what chaos said")
    chosen = parser.parse_args()
    missed = 0
    for defect in [each for each in DEFECTS if each.name in chosen.names or not chosen.names]:
        verdict = judge(defect)
        missed += not verdict.catches(defect)
        words = ", ".join(f"{name} {count}" for name, count in verdict.found.most_common()) or "nothing"
        word = "found " if verdict.catches(defect) else "MISSED"
        print(f"{verdict.seconds:6.1f} s  {word}  {defect.name}: {words}", flush=True)
        if chosen.show or not verdict.catches(defect):
            print(verdict.last_words, flush=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
