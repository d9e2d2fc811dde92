"""What a run must keep to, in one place. `--threshold name=value` changes one for a run, `name=off` has it not fail the run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from loadtests.evidence import FIGURES, Missing, why_not

AT_LEAST = frozenset({"turnover", "success_with_bot"})
"""Figures that must not be below their threshold; all others must not be above it."""

LAWS = dict.fromkeys(("oversold", "lost", "errors", "false_refusals", "above_limit", "expired_early"), 0.0)
"""What the service promises. Nobody can change these for a run."""

ALWAYS = LAWS | {
    "expiry_lag_p99_ms": 500.0,
    "reserve_p99_ms": 2_000.0,
}
"""Of every scenario. Latencies are generous: buyers, service and both databases share the machine's cores."""

BY_SCENARIO: dict[str, dict[str, float]] = {
    "flash_crowd": {"sold_out_p99_ms": 2_000.0, "unsold": 0.0},
    "abandoned_carts": {"turnover": 1.5},
    "bots": {"success_with_bot": 0.99, "bot_slowdown": 4.0},
    "soak": {"latency_drift": 2.0},
}


Bounds = Mapping[str, float | None]
"""The bound of each threshold, None of one that is off."""


@dataclass(frozen=True)
class Threshold:
    """One of them, and how the run did.

    `bound` is None if it is off. `value` is None if there was nothing to measure, or, where `reason` says why, if it can't
    be judged. A value with a reason is the least that it is.
    """

    name: str
    bound: float | None
    value: float | None
    reason: str = ""

    @property
    def at_least(self) -> bool:
        return self.name in AT_LEAST

    @property
    def kept(self) -> bool | None:
        """None if it is off, was not judged, or had nothing to measure: that is neither kept nor missed."""
        if self.value is None or self.bound is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    @property
    def result(self) -> str:
        """One of off, not judged, not measured, kept, missed."""
        if self.bound is None:
            return "off"
        if self.value is None:
            return "not judged" if self.reason else "not measured"
        return "kept" if self.kept else "missed"

    @property
    def must_be(self) -> str:
        if self.bound is None:
            return "off"
        return f"at least {self.bound:g}" if self.at_least else f"at most {self.bound:g}" if self.bound else "0"

    def __str__(self) -> str:
        return f"{self.name} is {'at least ' if self.reason else ''}{self.value:g}, must be {self.must_be}"


def bounds(scenario: str, changes: Iterable[str] = ()) -> dict[str, float | None]:
    """The thresholds of a scenario, with changes as `name=value`.

    Raises:
        ValueError: not a change, one of what the service promises, or of what the scenario has no threshold for.
    """
    found: dict[str, float | None] = {**ALWAYS, **BY_SCENARIO.get(scenario, {})}
    changeable = ", ".join(sorted(found.keys() - LAWS.keys()))
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"--threshold wants name=value or name=off, not {change}; {scenario} has {changeable}")
        if name in LAWS:
            raise ValueError(f"{name} is what the service promises; its threshold can't be changed")
        if name not in found:
            raise ValueError(f"{scenario} has no threshold {name or 'without a name'}; it has {changeable}")
        found[name] = None if value == "off" else _number(name, value)
    return found


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"threshold {name} wants a number, or off, not {text or 'nothing'}")
    return number


def measure(wanted: Bounds, figures: Mapping[str, float | None], missing: Missing) -> tuple[Threshold, ...]:
    return tuple(
        Threshold(name, bound, figures.get(name), why_not(FIGURES[name], missing)) for name, bound in wanted.items()
    )
