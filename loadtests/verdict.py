"""The verdict: counters, ledger and the buyers' own records must tell the same story."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.invariants import Invariant
from engine.invariants.told import told
from engine.values import Event
from loadtests import history, thresholds
from loadtests.figures import Endpoint, endpoints, figures
from loadtests.ledger import COUNTER_NAMES, Fold
from loadtests.records import Records
from loadtests.thresholds import Threshold

Counters = Mapping[str, Mapping[str, int]]
"""SKU -> available, reserved, allocated, on_hand."""

SHOWN_ABOVE = {"accepted_per_s", "accepted_peak_per_s", "refused_per_s", "commits_per_s", "oversold", "lost"}

MOST_SHOWN = 20
"""Wrong things that are printed. The JSON has them all."""


@dataclass(frozen=True)
class Case:
    """What is judged. `loaded` is what the run put into the SKUs, first and later; `limits` are units for a customer.

    `ledger` is the fold of what `happened`. `more` are figures that only this scenario has.
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
    bounds: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()
    interrupted: bool = False


@dataclass(frozen=True)
class Verdict:
    """Units and counts of one run. Anything in `wrong` fails it; one that was `interrupted` has not passed either.

    Checkouts, accepted and refused, in calls and in lines, are those of honest buyers; `bot` has the same of a bot, and is empty without one.
    """

    scenario: str
    seconds: float
    checkouts: int
    accepted: int
    refused: int
    bot: dict[str, int]
    refused_lines: dict[str, int]
    units_sold: int
    oversold: int
    lost: int
    unknown: int
    repeated: int
    throttled: int
    payments: dict[str, int]
    skipped: dict[str, int]
    events: dict[str, int]
    figures: dict[str, float | None]
    endpoints: tuple[Endpoint, ...]
    thresholds: tuple[Threshold, ...]
    notes: tuple[str, ...]
    wrong: tuple[str, ...]
    interrupted: bool

    @property
    def word(self) -> str:
        return "interrupted" if self.interrupted else "FAILED" if self.wrong else "passed"

    def document(self) -> dict[str, Any]:
        """The verdict for programs and for the report."""
        kept = [asdict(each) | {"at_least": each.at_least, "kept": each.kept} for each in self.thresholds]
        return asdict(self) | {"passed": self.word == "passed", "thresholds": kept}


def judge(case: Case) -> Verdict:
    """Compare the three stories, and the figures with their thresholds."""
    ledger, records = case.ledger, case.records
    wrong = list(records.problems)
    oversold, lost = _books(case, wrong)
    broken = list(told(history.calls(records), case.happened, bounds=history.bounds(records)))
    deadlines = {checkout.reservation_id: checkout.deadline_ms for checkout in records.reserved}
    refused_wrongly = sum(each.invariant is Invariant.NO_FALSE_REFUSAL for each in broken)
    above_limit = _above_limit(case)
    wrong += [*map(str, broken), *above_limit]
    found: dict[str, float | None] = figures(records, ledger, deadlines, case.seconds) | dict(case.more)
    found |= {"oversold": float(oversold), "lost": float(lost), "errors": float(records.counts["errors"])}
    found |= {"false_refusals": float(refused_wrongly), "above_limit": float(len(above_limit))}
    measured = thresholds.measure(case.bounds, found)
    wrong = [str(threshold) for threshold in measured if threshold.kept is False] + wrong
    bots = records.bots
    honest, bot = _counts(records, lambda user: user not in bots), _counts(records, lambda user: user in bots)
    return Verdict(
        scenario=case.scenario,
        seconds=round(case.seconds, 3),
        **honest,
        bot=bot if bots else {},
        refused_lines=dict(records.verdicts.most_common()),
        units_sold=sum(records.sold().values()),
        oversold=oversold,
        lost=lost,
        unknown=records.unknown,
        repeated=records.counts["repeated"],
        throttled=records.counts["throttled"],
        payments=dict(Counter(outcome for payment in records.payments for outcome in payment.outcomes)),
        skipped=dict(case.skipped),
        events=dict(ledger.events.most_common()),
        figures=found,
        endpoints=tuple(endpoints(records.timings)),
        thresholds=measured,
        notes=tuple(case.notes),
        wrong=tuple(wrong),
        interrupted=case.interrupted,
    )


def _counts(records: Records, wanted: Callable[[str], bool]) -> dict[str, int]:
    """Of the users who are wanted."""
    return {
        "checkouts": sum(wanted(checkout.user) for checkout in records.checkouts),
        "accepted": sum(wanted(checkout.user) for checkout in records.reserved),
        "refused": sum(wanted(refusal.user) for refusal in records.refusals),
    }


def _books(case: Case, wrong: list[str]) -> tuple[int, int]:
    """Compare what was loaded, the counters, the ledger and what buyers paid for, SKU by SKU.

    Returns: `oversold`, units sold or held beyond what was loaded, at the end or at any point of the ledger; and
    `lost`, units of which the books don't say where they are, or which buyers paid for and the books don't have.
    """
    oversold = lost = 0
    sold, cancelled = case.records.sold(), case.ledger.events["cancel"] + case.ledger.events["fulfil"]
    for sku, units in case.loaded.items():
        now = case.counters.get(sku)
        if now is None:
            wrong.append(f"{sku} is gone")
            lost += units
            continue
        oversold += max(0, now["reserved"] + now["allocated"] - units, -now["available"])
        lost += abs(units - now["available"] - now["reserved"] - now["allocated"])
        if now["reserved"]:
            wrong.append(f"{sku} has {now['reserved']} reserved, after every hold has ended")
        if not case.records.unknown and not cancelled:
            lost += abs(now["allocated"] - sold[sku])
        for name in COUNTER_NAMES:
            told = case.ledger.counters.get(sku, Counter())[name]
            if told != now[name]:
                wrong.append(f"{sku} has {name} {now[name]}, but the ledger adds up to {told}")
    oversold += case.ledger.below_zero
    # Those are what the threshold of `oversold` counts.
    wrong += [str(each) for each in case.ledger.violations if each.invariant is not Invariant.NO_OVERSELL]
    return oversold, lost


def _above_limit(case: Case) -> list[str]:
    """Customers who at any moment held and had bought more of a SKU than they may."""
    return [
        f"{user} had {units} of {sku}, of which a customer may have {case.limits[sku]}"
        for (user, sku), units in case.ledger.most_claimed.items()
        if units > case.limits.get(sku, units)
    ]


def shown(verdict: Verdict) -> str:
    """The verdict as a person reads it in a terminal."""
    lines = [
        f"scenario       {verdict.scenario}, {verdict.seconds:.0f} s",
        f"checkouts      {verdict.checkouts:>8}",
        f"  accepted     {verdict.accepted:>8}   {verdict.figures['accepted_per_s']:.1f}/s   {verdict.figures['accepted_peak_per_s']:.0f} in the best second",
        f"  refused      {verdict.refused:>8}   {verdict.figures['refused_per_s']:.1f}/s   calls with a line that could not be had",
        *(f"    {name:<12} {count:>8}   lines" for name, count in verdict.refused_lines.items()),
        f"  committed    {verdict.events.get('commit', 0):>8}   {verdict.figures['commits_per_s']:.1f}/s",
        *([f"bot            {_list(verdict.bot)}; not in the lines above"] if verdict.bot else []),
        f"units sold     {verdict.units_sold:>8}",
        f"oversold       {verdict.oversold:>8}   must be 0",
        f"lost           {verdict.lost:>8}   must be 0",
        f"unknown        {verdict.unknown:>8}   checkouts and payments whose answer never came",
        f"repeated       {verdict.repeated:>8}   calls, with the same idempotency key, after no answer or a 5xx",
        "payments       " + (_list(verdict.payments) or "by commit only"),
        "ledger         " + _list(verdict.events),
        "skipped        "
        + (", ".join(f"{count} lines: {reason}" for reason, count in verdict.skipped.items()) or "nothing"),
        *_figures(verdict),
        f"{'call':<52} {'count':>7} {'p50':>7} {'p95':>7} {'p99':>7} {'max':>7} ms",
        *(
            f"  {each.name:<50} {each.calls:>7} {each.p50_ms:>7.0f} {each.p95_ms:>7.0f} {each.p99_ms:>7.0f} {each.max_ms:>7.0f}"
            for each in verdict.endpoints
        ),
        *(f"note           {note}" for note in verdict.notes),
        *(f"WRONG: {text}" for text in verdict.wrong[:MOST_SHOWN]),
        f"verdict        {verdict.word}",
    ]
    return "\n".join(lines)


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _figures(verdict: Verdict) -> Iterable[str]:
    """What was measured and isn't shown above, with what it had to be."""
    must = {threshold.name: threshold for threshold in verdict.thresholds}
    for name, value in verdict.figures.items():
        if name in SHOWN_ABOVE or (value is None and name not in must):
            continue
        bound = f"   must be {must[name].must_be}" if name in must else ""
        yield f"{name:<20} {'not measured' if value is None else f'{value:>8.4g}'}{bound}"
