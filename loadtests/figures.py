"""Figures of a run: rates, percentiles, shares, and the series behind the plots."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from loadtests.evidence import BOOKS, BOTH, RECORDS, Missing, why_not
from loadtests.ledger import COUNTER_NAMES, Fold
from loadtests.records import BOT_PLAN, Records, Timings

MAX_POINTS = 240
"""Points of a plot; longer runs have several seconds in one."""

RESERVE = "POST /v1/reservations"
SOLD_OUT = f"{RESERVE} (sold out)"
NOISE_MS = 50.0
"""Latencies below this are as good as each other: a machine that also runs the buyers jitters by as much."""

NOTHING: Missing = {}
BOT = "(bot)"
"""In the names of a bot's calls, so that those of honest buyers can be told apart."""


@dataclass(frozen=True)
class Endpoint:
    """Milliseconds that the answers of one kind of call took."""

    name: str
    calls: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


def merged(timings: Timings, wanted: Callable[[str, int], bool] = lambda name, second: True) -> Counter[float]:
    """What the calls took of which name and second are wanted."""
    took: Counter[float] = Counter()
    for (name, second), counted in timings.items():
        if wanted(name, second):
            took.update(counted)
    return took


def percentile(took: Mapping[float, int], share: float) -> float | None:
    """The value that at least this share of the values doesn't exceed; None of nothing."""
    wanted = math.ceil(sum(took.values()) * share)
    for value in sorted(took):
        wanted -= took[value]
        if wanted <= 0:
            return value
    return None


def endpoints(timings: Timings) -> list[Endpoint]:
    found = []
    for each in sorted({name for name, _ in timings}):
        took = merged(timings, lambda name, second, each=each: name == each)  # type: ignore[misc]
        p50, p95, p99 = (percentile(took, share) or 0.0 for share in (0.5, 0.95, 0.99))
        found.append(Endpoint(each, sum(took.values()), p50, p95, p99, max(took)))
    return found


def lags(ledger: Fold, deadlines: Mapping[str, int]) -> Counter[float]:
    """Milliseconds from deadline to expiry, of the holds that expired and whose deadline a buyer was told."""
    return Counter(
        float((hold.ended_ms or 0) - deadlines[reservation_id])
        for reservation_id, hold in ledger.holds.items()
        if hold.ended_by == "expire" and reservation_id in deadlines
    )


def figures(records: Records, ledger: Fold, deadlines: Mapping[str, int], seconds: float) -> dict[str, float | None]:
    """The run in numbers, by name. Rates of acceptance, refusal and payment stay apart: their sum means nothing.

    Those rates, and the conversion, are of honest buyers; a bot is counted by itself.
    """
    bots = records.bots
    accepted = sum(checkout.user not in bots for checkout in records.reserved)
    refused = sum(refusal.user not in bots for refusal in records.refusals)
    commits, lag = ledger.events["commit"], lags(ledger, deadlines)
    supplied, claimed = sum(ledger.supplied.values()), sum(ledger.claimed.values())
    took = merged(records.timings, lambda name, _: name == RESERVE)
    tail = merged(records.timings, lambda name, _: name == SOLD_OUT)
    return {
        "accepted_per_s": accepted / seconds,
        "accepted_peak_per_s": float(max(accepted_by_second(ledger, bots).values(), default=0)),
        "refused_per_s": refused / seconds,
        "commits_per_s": commits / seconds,
        "conversion": commits / accepted if accepted else None,
        "turnover": claimed / supplied if supplied else None,
        "hot_sku_share": max(ledger.claimed.values(), default=0) / claimed if claimed else None,
        "expiry_lag_p50_ms": percentile(lag, 0.5),
        "expiry_lag_p99_ms": percentile(lag, 0.99),
        "expiry_lag_max_ms": max(lag, default=None),
        "expired_early": float(sum(count for each, count in lag.items() if each < 0)),
        "reserve_p99_ms": percentile(took, 0.99),
        "sold_out_p99_ms": percentile(tail, 0.99),
    }


def accepted_by_second(ledger: Fold, bots: Set[str]) -> Counter[int]:
    """Reservations of honest buyers, by the second (unix) in which the ledger has them."""
    return Counter(hold.at_ms // 1000 for hold in ledger.holds.values() if hold.user not in bots)


def refused_by_second(records: Records, bots: Set[str]) -> Counter[int]:
    """Refusals of honest buyers, by the second (unix) in which they were answered."""
    return Counter(int(each.until_ms // 1000) for each in records.refusals if each.user not in bots)


def with_and_without_bot(records: Records, split_ms: float) -> dict[str, float | None]:
    """How honest buyers fared before a bot came, and with it. Both phases are equally long."""
    split_s = int(split_ms // 1000)

    def p99(wanted: Callable[[int], bool]) -> float | None:
        return percentile(merged(records.timings, lambda name, s: BOT not in name and wanted(s)), 0.99)

    def success(wanted: Callable[[float], bool]) -> float | None:
        honest = [each for each in records.checkouts if each.plan != BOT_PLAN and wanted(each.at_ms)]
        return sum(bool(each.reservation_id) for each in honest) / len(honest) if honest else None

    before, after = p99(lambda second: second < split_s), p99(lambda second: second >= split_s)
    return {
        "p99_without_bot_ms": before,
        "p99_with_bot_ms": after,
        "bot_slowdown": _times(before, after),
        "success_without_bot": success(lambda at_ms: at_ms < split_ms),
        "success_with_bot": success(lambda at_ms: at_ms >= split_ms),
    }


def drift(records: Records, from_ms: float, until_ms: float) -> dict[str, float | None]:
    """How many times longer calls took in the last fifth of a run than in the first one, at p95."""
    fifth = (until_ms - from_ms) / 5 / 1000
    first_s, last_s = from_ms / 1000 + fifth, until_ms / 1000 - fifth
    first = percentile(merged(records.timings, lambda _, second: second < first_s), 0.95)
    last = percentile(merged(records.timings, lambda _, second: second >= last_s), 0.95)
    return {
        "first_fifth_p95_ms": first,
        "last_fifth_p95_ms": last,
        "latency_drift": _times(first, last),
    }


def _times(before: float | None, after: float | None) -> float | None:
    """How many times longer it took afterwards, beyond noise."""
    if before is None or after is None:
        return None
    return max(after, NOISE_MS) / max(before, NOISE_MS)


def series(
    records: Records, ledger: Fold, from_ms: float, until_ms: float, missing: Missing = NOTHING
) -> dict[str, Any]:
    """What the plots show: per step of whole seconds, rates a second, totals at its end, percentiles of the calls made in it.

    The last step has no rates if the run ended within it. What would only show what is missing has no values at all.
    """
    first, last = int(from_ms // 1000), int(until_ms // 1000)
    step = max(1, math.ceil((last - first + 1) / MAX_POINTS))
    starts = list(range(first, last + 1, step))
    bots = records.bots
    refused = refused_by_second(records, bots)

    def rates(counted: Mapping[int, int]) -> list[float | None]:
        return [
            round(sum(counted.get(start + each, 0) for each in range(step)) / step, 2) if start + step <= last else None
            for start in starts
        ]

    by_step: list[Counter[float]] = [Counter() for _ in starts]
    for (_, second), took in records.timings.items():
        if first <= second <= last:
            by_step[(second - first) // step].update(took)
    drawn = {
        **dict(zip(COUNTER_NAMES, _totals(ledger, starts, step), strict=True)),
        "accepted": rates(accepted_by_second(ledger, bots)),
        "refused": rates(refused),
        "committed": rates(ledger.per_second["commit"]),
        "p50_ms": [percentile(took, 0.5) for took in by_step],
        "p99_ms": [percentile(took, 0.99) for took in by_step],
    }
    return {"step_s": step} | {
        name: [None] * len(starts) if why_not(SERIES[name], missing) else values for name, values in drawn.items()
    }


SERIES = {
    **dict.fromkeys((*COUNTER_NAMES, "committed"), BOOKS),
    **dict.fromkeys(("refused", "p50_ms", "p99_ms"), RECORDS),
    "accepted": BOTH,
}
"""What each series rests on. Of those accepted only the records tell which were a bot's."""


def _totals(ledger: Fold, starts: Iterable[int], step: int) -> list[list[int]]:
    """Units available, reserved and allocated at the end of each step."""
    seconds, at, now = sorted(ledger.history), 0, (0,) * len(COUNTER_NAMES)
    rows = []
    for start in starts:
        while at < len(seconds) and seconds[at] < start + step:
            now = ledger.history[seconds[at]]
            at += 1
        rows.append(now)
    return [list(column) for column in zip(*rows, strict=True)]
