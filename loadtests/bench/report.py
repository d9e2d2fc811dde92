"""What a run of the measurements finds: raw figures, comparisons with their targets, tables, JSON."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIRECTORY = ROOT / "build" / "bench"
"""Kept out of git."""

PACKAGES = ("flask", "gunicorn", "redis", "hiredis", "psycopg", "fastapi", "uvicorn", "uvloop", "pydantic")


@dataclass(frozen=True)
class Target:
    """A bound for a ratio, or for our figure where there is nothing to compare it with."""

    value: float
    at_most: bool = False

    def met(self, found: float) -> bool:
        return found <= self.value if self.at_most else found >= self.value

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.value:g}"


@dataclass(frozen=True)
class Comparison:
    """Ours beside theirs, both as measured in this run. `theirs` is None where our figure is judged by itself."""

    name: str
    ours: float
    theirs: float | None
    unit: str
    target: Target | None = None

    @property
    def judged(self) -> float:
        if self.theirs is None:
            return self.ours
        return self.ours / self.theirs if self.theirs else float("nan")

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        return "met" if self.target.met(self.judged) else "MISSED"


@dataclass(frozen=True)
class Figure:
    """The median of `rounds`."""

    measurement: str
    name: str
    unit: str
    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


@dataclass
class Run:
    """One call of the program: what it was asked for, and what it has found so far.

    `quick` shows that everything works, with figures that mean nothing.
    """

    kind: str
    quick: bool = False
    figures: list[Figure] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    servers: set[str] = field(default_factory=set)

    @property
    def rounds(self) -> int:
        return 1 if self.quick else 5

    @property
    def seconds(self) -> float:
        """How long one side is called in one round."""
        return 0.3 if self.quick else 4.0

    def sized(self, full: int, quick_share: int = 100) -> int:
        """How many of something to make; of `full` a `quick_share`th in a quick run."""
        return full // quick_share if self.quick else full

    def note(self, measurement: str, name: str, unit: str, rounds: Iterable[float]) -> float:
        """Keep a figure. Returns: its median."""
        self.figures.append(Figure(measurement, name, unit, tuple(rounds)))
        return self.figures[-1].median

    def compare(self, name: str, ours: float, theirs: float | None, unit: str, target: Target | None = None) -> None:
        self.comparisons.append(Comparison(name, ours, theirs, unit, target))

    def ratios(self) -> str:
        """The table at the end."""
        rows = [("", "ours", "theirs", "unit", "ratio", "target", "")]
        for each in self.comparisons:
            theirs, ratio = ("", "") if each.theirs is None else (number(each.theirs), f"{each.judged:.2f}")
            target = str(each.target) if each.target else ""
            rows.append((each.name, number(each.ours), theirs, each.unit, ratio, target, each.verdict))
        return table(rows)

    def write(self, directory: Path) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.json"
        comparisons = [asdict(each) | {"judged": each.judged, "verdict": each.verdict} for each in self.comparisons]
        figures = [asdict(each) | {"median": each.median} for each in self.figures]
        document = {"machine": self.machine(), "quick": self.quick, "comparisons": comparisons, "figures": figures}
        path.write_text(json.dumps(document, indent=1) + "\n")
        return path

    def machine(self) -> dict[str, object]:
        return {
            "cores": len(os.sched_getaffinity(0)),
            "processor": _processor(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "servers": sorted(self.servers),
            "packages": {name: version for name in PACKAGES if (version := _version(name))},
        }


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side, the first one to the left and all others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    )


def number(value: float) -> str:
    """As a person reads it: three digits or more."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    names = [line.partition(":")[2] for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    return names[0].strip() if names else platform.machine()


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
