"""What a verdict rests on, and which of it each figure, threshold and check needs. What needs something missing is not judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from engine.invariants import Invariant


class Evidence(StrEnum):
    """`records`: those of all buyers. `answers`: to every call of theirs. `books`: counters and ledger, read while nothing moved."""

    RECORDS = "records"
    ANSWERS = "answers"
    BOOKS = "books"


Missing = Mapping[Evidence, str]
"""What there isn't, and why."""

RECORDS = frozenset({Evidence.RECORDS})
BOOKS = frozenset({Evidence.BOOKS})
BOTH = RECORDS | BOOKS

FIGURES: dict[str, frozenset[Evidence]] = {
    "accepted_per_s": RECORDS,
    "accepted_peak_per_s": BOTH,
    "refused_per_s": RECORDS,
    "commits_per_s": BOOKS,
    "conversion": BOTH,
    "turnover": BOOKS,
    "hot_sku_share": BOOKS,
    "expiry_lag_p50_ms": BOTH,
    "expiry_lag_p99_ms": BOTH,
    "expiry_lag_max_ms": BOTH,
    "expired_early": BOTH,
    "reserve_p99_ms": RECORDS,
    "sold_out_p99_ms": RECORDS,
    "unsold": BOOKS,
    "oversold": BOOKS,
    "lost": BOTH,
    "errors": RECORDS,
    "false_refusals": BOTH,
    "above_limit": BOOKS,
    "rush_requests_per_s": RECORDS,
    "rush_accepted_per_s": BOTH,
    "rush_refused_per_s": RECORDS,
    "rush_commits_per_s": BOTH,
    "rush_first_second_p50_ms": RECORDS,
    "rush_first_second_p99_ms": RECORDS,
    "sold_out_after_s": BOOKS,
    "p99_without_bot_ms": RECORDS,
    "p99_with_bot_ms": RECORDS,
    "bot_slowdown": RECORDS,
    "success_without_bot": RECORDS,
    "success_with_bot": RECORDS,
    "first_fifth_p95_ms": RECORDS,
    "last_fifth_p95_ms": RECORDS,
    "latency_drift": RECORDS,
}

COUNTS = ("lost", "errors", "false_refusals", "expired_early")
"""Figures that only grow with what is missing: what was found of them is so, and fails the run all the same."""

CHECKS: dict[Invariant, frozenset[Evidence]] = {
    Invariant.FOLD: BOOKS,
    Invariant.LIFECYCLE: BOOKS,
    Invariant.PAYMENTS: BOTH,
    Invariant.RETURN_BOUND: BOTH,
    Invariant.ACKNOWLEDGED: BOTH,
    Invariant.IDEMPOTENCY: BOTH,
    Invariant.OWNERSHIP: BOTH,
    Invariant.REFUSED: BOTH | {Evidence.ANSWERS},
}
"""What is judged beside the thresholds. Each finds something wrong on its own evidence, so what was found is so here, too."""


def why_not(needs: Iterable[Evidence], missing: Missing) -> str:
    """Why what needs this isn't judged, '' if it is."""
    return "; ".join(missing[each] for each in Evidence if each in needs and each in missing)


def kept_back(figures: Mapping[str, float | None], missing: Missing) -> dict[str, float | None]:
    """The figures without those that would only show what is missing."""
    return {
        name: None if why_not(FIGURES[name], missing) and not (name in COUNTS and value) else value
        for name, value in figures.items()
    }
