"""The verdict: counters, ledger and the buyers' own records must tell the same story."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any

from engine.invariants import Invariant, Violation
from engine.values import Event
from loadtests import history, rush, thresholds
from loadtests.checker.told import told
from loadtests.defaults import SCENARIOS
from loadtests.evidence import CHECKS, Evidence, Missing, kept_back, why_not
from loadtests.figures import Endpoint, endpoints, figures
from loadtests.ledger import COUNTER_NAMES, Fold
from loadtests.records import Records
from loadtests.thresholds import Bounds, Threshold

Counters = Mapping[str, Mapping[str, int]]
"""SKU -> available, reserved, allocated, on_hand."""

STILL_HELD_MS = 5_000
"""A hold that stands so long after its deadline isn't about to end: that is a lag, which has a threshold of its own."""


@dataclass(frozen=True)
class Case:
    """What is judged. `loaded` is what the run put into the SKUs, first and later; `limits` are units for a customer.

    `ledger` is the fold of what `happened`; both were read at `read_ms`. `more` are figures that only this scenario has.
    `rush_ms` is when its rush began, `closed_ms` when the run ended. `missing` is what there is no evidence of, and fails it.
    """

    scenario: str
    seconds: float
    loaded: Mapping[str, int]
    counters: Counters
    ledger: Fold
    happened: Sequence[Event]
    records: Records
    limits: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    more: Mapping[str, float | None] = field(default_factory=dict)
    bounds: Bounds = field(default_factory=dict)
    notes: Sequence[str] = ()
    interrupted: bool = False
    missing: Missing = field(default_factory=dict)
    rush_ms: float | None = None
    closed_ms: float = inf
    read_ms: float = inf


@dataclass(frozen=True)
class Check:
    """One of what is judged beside the thresholds. `result`: kept, broken, or not judged, and then `reason` says why."""

    name: str
    rule: str
    result: str
    reason: str = ""


@dataclass(frozen=True)
class Verdict:
    """Units and counts of one run. Anything in `wrong` fails it; one that was `interrupted` has not passed either.

    Checkouts, accepted and refused, in calls and in lines, are those of honest buyers; `bot` has the same of a bot, and is empty
    without one. What rests on evidence that is `missing` is None. `rush` has the rush second by second, None without one.
    """

    scenario: str
    seconds: float
    checkouts: int | None
    accepted: int | None
    refused: int | None
    bot: dict[str, int] | None
    refused_lines: dict[str, int] | None
    units_sold: int | None
    oversold: int | None
    lost: int | None
    unknown: int | None
    repeated: int | None
    throttled: int | None
    payments: dict[str, int] | None
    skipped: dict[str, int]
    events: dict[str, int] | None
    figures: dict[str, float | None]
    endpoints: tuple[Endpoint, ...]
    thresholds: tuple[Threshold, ...]
    checks: tuple[Check, ...]
    missing: dict[str, str]
    rush: tuple[rush.Second, ...] | None
    notes: tuple[str, ...]
    wrong: tuple[str, ...]
    interrupted: bool

    @property
    def word(self) -> str:
        return "interrupted" if self.interrupted else "FAILED" if self.wrong else "passed"

    @property
    def not_judged(self) -> dict[str, list[str]]:
        """Thresholds and checks without a judgement, by the reason why."""
        found: dict[str, list[str]] = {}
        results: tuple[Threshold | Check, ...] = (*self.thresholds, *self.checks)
        for each in results:
            if each.result == "not judged":
                found.setdefault(each.reason, []).append(each.name)
        return found

    def document(self) -> dict[str, Any]:
        """The verdict for programs and for the report."""
        measured = [
            asdict(each) | {"at_least": each.at_least, "kept": each.kept, "result": each.result}
            for each in self.thresholds
        ]
        return asdict(self) | {"passed": self.word == "passed", "thresholds": measured}


def judge(case: Case) -> Verdict:
    """Compare the three stories, and the figures with their thresholds. What rests on nothing is not judged."""
    ledger, records, missing = case.ledger, case.records, dict(case.missing)
    if records.unknown:
        missing[Evidence.ANSWERS] = f"{records.unknown} answers to buyers never came"
    oversold, lost, broken = (0, 0, list[Violation]()) if Evidence.BOOKS in missing else _compared(case)
    deadlines = {checkout.reservation_id: checkout.deadline_ms for checkout in records.reserved}
    refused_wrongly = sum(each.invariant is Invariant.NO_FALSE_REFUSAL for each in broken)
    above_limit = _above_limit(case)
    found: dict[str, float | None] = figures(records, ledger, deadlines, case.seconds) | dict(case.more)
    found |= {"oversold": float(oversold), "lost": float(lost), "errors": float(records.counts["errors"])}
    found |= {"false_refusals": float(refused_wrongly), "above_limit": float(len(above_limit))}
    rushed = _rush(case)
    found |= rush.figures(rushed) if rushed is not None else {}
    found = kept_back(found, missing)
    measured = thresholds.measure(case.bounds, found, missing)
    wrong = [*case.missing.values(), *(str(each) for each in measured if each.kept is False)]
    # The thresholds count what is oversold.
    told_wrong = [str(each) for each in broken if each.invariant is not Invariant.NO_OVERSELL]
    wrong += [*records.problems, *told_wrong, *above_limit]
    return Verdict(
        scenario=case.scenario,
        seconds=round(case.seconds, 3),
        **_of_buyers(records, judged=Evidence.RECORDS not in missing),
        oversold=_whole(found["oversold"]),
        lost=_whole(found["lost"]),
        skipped=dict(case.skipped),
        events=None if Evidence.BOOKS in missing else dict(ledger.events.most_common()),
        figures=found,
        endpoints=() if Evidence.RECORDS in missing else tuple(endpoints(records.timings)),
        thresholds=measured,
        checks=tuple(_checks(broken, missing)),
        missing={str(evidence): reason for evidence, reason in missing.items()},
        rush=None if rushed is None else tuple(rushed[: rush.MAX_SECONDS]),
        notes=tuple(case.notes),
        wrong=tuple(wrong),
        interrupted=case.interrupted,
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _compared(case: Case) -> tuple[int, int, list[Violation]]:
    """Returns: what is oversold, what is lost, and everything that counters, ledger and buyers contradict each other in."""
    oversold, lost, broken = _books(case)
    bounds = history.bounds(case.records, case.missing)
    broken += [*told(history.calls(case.records), case.happened, bounds=bounds), *_still_held(case)]
    return oversold, lost, broken


def _rush(case: Case) -> list[rush.Second] | None:
    """None of a scenario without a rush; empty if it never came, or if not all is known of it."""
    if not SCENARIOS[case.scenario].rush:
        return None
    if case.rush_ms is None or case.missing:
        return []
    return rush.seconds(case.records, case.ledger, case.rush_ms, case.closed_ms)


def _checks(broken: Sequence[Violation], missing: Missing) -> Iterator[Check]:
    """What was found wrong is so, whatever is missing; that nothing was found says something only with all the evidence."""
    for invariant, needs in CHECKS.items():
        reason = why_not(needs, missing)
        if any(each.invariant is invariant for each in broken):
            yield Check(invariant.value, invariant.rule, "broken")
        else:
            yield Check(invariant.value, invariant.rule, "not judged" if reason else "kept", reason)


def _of_buyers(records: Records, *, judged: bool) -> dict[str, Any]:
    """What only the buyers' records tell, each None if they aren't all there."""
    bots = records.bots
    bot = _counts(records, lambda user: user in bots)
    known: dict[str, Any] = _counts(records, lambda user: user not in bots) | {
        "bot": bot if bots else {},
        "refused_lines": dict(records.verdicts.most_common()),
        "units_sold": sum(records.sold().values()),
        "unknown": records.unknown,
        "repeated": records.counts["repeated"],
        "throttled": records.counts["throttled"],
        "payments": dict(Counter(outcome for payment in records.payments for outcome in payment.outcomes)),
    }
    return known if judged else dict.fromkeys(known)


def _counts(records: Records, wanted: Callable[[str], bool]) -> dict[str, int]:
    """Of the users who are wanted."""
    return {
        "checkouts": sum(wanted(checkout.user) for checkout in records.checkouts),
        "accepted": sum(wanted(checkout.user) for checkout in records.reserved),
        "refused": sum(wanted(refusal.user) for refusal in records.refusals),
    }


def _books(case: Case) -> tuple[int, int, list[Violation]]:
    """Compare what was loaded, the counters, the ledger and what buyers paid for, SKU by SKU.

    Returns: `oversold`, units sold or held beyond what was loaded, at the end or at any point of the ledger; `lost`, units of
    which the books don't say where they are, or which buyers paid for and the books don't have; and what else is wrong.
    """
    oversold = lost = 0
    broken = list(case.ledger.violations)
    sold, unclear = case.records.sold(), case.records.unclear()
    for sku, units in case.loaded.items():
        now = case.counters.get(sku)
        if now is None:
            broken.append(Violation(Invariant.FOLD, f"{sku} is gone"))
            lost += units
            continue
        oversold += max(0, now["reserved"] + now["allocated"] - units, -now["available"])
        lost += abs(units - now["available"] - now["reserved"] - now["allocated"])
        paid = case.ledger.sold[sku]
        lost += max(0, sold[sku] - paid)
        if Evidence.RECORDS not in case.missing:
            lost += max(0, paid - sold[sku] - unclear[sku])
        for name in COUNTER_NAMES:
            told = case.ledger.counters.get(sku, Counter())[name]
            if told != now[name]:
                text = f"{sku} has {name} {now[name]}, but the ledger adds up to {told}"
                broken.append(Violation(Invariant.FOLD, text))
    return oversold + case.ledger.below_zero, lost, broken


def _still_held(case: Case) -> Iterator[Violation]:
    """Holds of which buyers know that they ran out, and which the ledger still has."""
    for checkout in case.records.reserved:
        hold = case.ledger.holds.get(checkout.reservation_id)
        if hold is not None and hold.ended_ms is None and checkout.deadline_ms < case.read_ms - STILL_HELD_MS:
            text = f"reservation {checkout.reservation_id} ran out, and holds {sum(hold.lines.values())} units for ever"
            yield Violation(Invariant.RETURN_BOUND, text)


def _above_limit(case: Case) -> list[str]:
    """Customers who at any moment held and had bought more of a SKU than they may."""
    return [
        f"{user} had {units} of {sku}, of which a customer may have {case.limits[sku]}"
        for (user, sku), units in case.ledger.most_claimed.items()
        if units > case.limits.get(sku, units)
    ]
