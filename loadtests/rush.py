"""A rush: the seconds after a crowd, or a bot, has come. Means over a whole run would hide them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from loadtests.figures import RESERVE, accepted_by_second, merged, percentile, refused_by_second
from loadtests.ledger import Fold
from loadtests.records import Records, Timings

MAX_SECONDS = 10
"""Seconds that are shown one by one."""


@dataclass(frozen=True)
class Second:
    """What came in one second; the first one is 1. The milliseconds are those of the calls to reserve that were made in it."""

    second: int
    requests: int
    accepted: int
    refused: int
    committed: int
    p50_ms: float | None
    p99_ms: float | None


def next_second(at_ms: float) -> int:
    """The whole second of the service's clock that comes next, in milliseconds. A rush begins with one, as all steps do."""
    return (int(at_ms // 1000) + 1) * 1000


def seconds(records: Records, ledger: Fold, from_ms: float, until_ms: float) -> list[Second]:
    """Every second from the rush's first one on to the one in which the last call was made."""
    start, bots = int(from_ms // 1000), records.bots
    requests = _requests(records.timings)
    end = max((second for second in requests if second <= until_ms // 1000), default=start - 1)
    accepted, refused = accepted_by_second(ledger, bots), refused_by_second(records, bots)
    committed = ledger.per_second.get("commit", Counter())
    found = []
    for at in range(start, end + 1):
        took = merged(records.timings, lambda name, second, at=at: name == RESERVE and second == at)  # type: ignore[misc]
        p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
        found.append(Second(at - start + 1, requests[at], accepted[at], refused[at], committed[at], p50, p99))
    return found


def _requests(timings: Timings) -> Counter[int]:
    """Calls by the second in which they were made."""
    made: Counter[int] = Counter()
    for (_, second), took in timings.items():
        made[second] += sum(took.values())
    return made


def figures(found: list[Second]) -> dict[str, float | None]:
    """The best second of each kind, which need not be the same one, and how long the first callers waited."""

    def best(name: str) -> float | None:
        return float(max(getattr(each, name) for each in found)) if found else None

    return {
        "rush_requests_per_s": best("requests"),
        "rush_accepted_per_s": best("accepted"),
        "rush_refused_per_s": best("refused"),
        "rush_commits_per_s": best("committed"),
        "rush_first_second_p50_ms": found[0].p50_ms if found else None,
        "rush_first_second_p99_ms": found[0].p99_ms if found else None,
    }


def sold_out_after_s(ledger: Fold, sku: str, from_ms: float | None) -> float | None:
    """Seconds from the rush until the SKU was available no more; below 0 if that was before it. None: it always was."""
    if from_ms is None:
        return None
    available = 0
    for at_ms, step, _ in ledger.moves.get(sku, ()):
        available += step
        if step < 0 and available <= 0:
            return (at_ms - from_ms) / 1000
    return None


def shown(found: Mapping[str, float | None], name: str) -> str:
    """One of the figures above, for the line of the verdict that begins with what it counts."""
    value = found.get(name)
    return "" if value is None else f"{value:.0f} in the best second of the rush"
