"""The verdict: counters, ledger and the buyers' own records must tell the same story."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loadtests.records import Records

Counters = Mapping[str, Mapping[str, int]]
"""SKU -> available, reserved, allocated, on_hand."""

COUNTER_NAMES = ("available", "reserved", "allocated")

MOVES: dict[str, tuple[tuple[str, int], ...]] = {
    "recount": (("available", 1),),
    "restock": (("available", 1),),
    "withdraw": (("available", -1),),
    "reserve": (("available", -1), ("reserved", 1)),
    "release": (("reserved", -1), ("available", 1)),
    "expire": (("reserved", -1), ("available", 1)),
    "commit": (("reserved", -1), ("allocated", 1)),
    "cancel": (("allocated", -1), ("available", 1)),
    "fulfil": (("allocated", -1),),
}
"""What each event does to the counters of its lines. Other events move no stock."""


@dataclass
class Fold:
    """The ledger played from the start: counters at the end, and how often one was below 0 on the way."""

    counters: dict[str, Counter[str]] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    below_zero: int = 0
    sold: Counter[str] = field(default_factory=Counter)
    commits: Counter[str] = field(default_factory=Counter)
    reserves: Counter[str] = field(default_factory=Counter)


def fold(events: Iterable[Mapping[str, Any]], prefix: str) -> Fold:
    """Play the events that touch SKUs with the prefix. A commit after the hold's end takes from available."""
    result, ended = Fold(), set()
    for event in events:
        lines = [line for line in event["lines"] if line["sku"].startswith(prefix)]
        if not lines:
            continue
        op, reservation_id = event["op"], event["reservation_id"]
        result.events[op] += 1
        if op in ("release", "expire"):
            ended.add(reservation_id)
        late = op == "commit" and reservation_id in ended
        if op == "commit":
            result.commits[reservation_id] += 1
            result.sold.update({line["sku"]: line["quantity"] for line in lines})
        if op == "reserve":
            result.reserves[reservation_id] += 1
        for line in lines:
            counters = result.counters.setdefault(line["sku"], Counter())
            for name, sign in MOVES.get(op, ()):
                moved = "available" if late and name == "reserved" else name
                counters[moved] += sign * line["quantity"]
            result.below_zero += min(counters.values(), default=0) < 0
    return result


@dataclass(frozen=True)
class Verdict:
    """Units and counts of one run. Anything in `wrong` fails it."""

    checkouts: int
    accepted: int
    refused: int
    refused_lines: dict[str, int]
    units_sold: int
    oversold: int
    lost: int
    unknown: int
    skipped: dict[str, int]
    events: dict[str, int]
    wrong: tuple[str, ...]


def judge(
    loaded: Mapping[str, int], counters: Counters, ledger: Fold, records: Records, skipped: dict[str, int]
) -> Verdict:
    """Compare the three stories.

    `oversold`: units sold or held beyond what was loaded, at the end or at any point of the ledger.
    `lost`: units of which the books don't say where they are, or which buyers paid for and the books don't have.
    """
    wrong = list(records.problems)
    oversold = lost = 0
    sold = records.sold()
    for sku, units in loaded.items():
        now = counters.get(sku)
        if now is None:
            wrong.append(f"{sku} is gone")
            lost += units
            continue
        oversold += max(0, now["reserved"] + now["allocated"] - units, -now["available"])
        lost += abs(units - now["available"] - now["reserved"] - now["allocated"])
        if now["reserved"]:
            wrong.append(f"{sku} has {now['reserved']} reserved, after every hold has ended")
        if not records.unknown:
            lost += abs(now["allocated"] - sold[sku])
        for name in COUNTER_NAMES:
            told = ledger.counters.get(sku, Counter())[name]
            if told != now[name]:
                wrong.append(f"{sku} has {name} {now[name]}, but the ledger adds up to {told}")
    oversold += ledger.below_zero
    wrong += _acknowledged(ledger, records)
    if oversold:
        wrong.append(f"{oversold} units oversold")
    if lost:
        wrong.append(f"{lost} units lost")
    return Verdict(
        checkouts=len(records.checkouts),
        accepted=len(records.reserved),
        refused=records.refused_baskets,
        refused_lines=dict(records.verdicts.most_common()),
        units_sold=sum(sold.values()),
        oversold=oversold,
        lost=lost,
        unknown=records.unknown,
        skipped=skipped,
        events=dict(ledger.events.most_common()),
        wrong=tuple(wrong),
    )


def _acknowledged(ledger: Fold, records: Records) -> Iterable[str]:
    """Whatever a buyer was told stands in the ledger, once."""
    for checkout in records.reserved:
        if ledger.reserves[checkout.reservation_id] != 1:
            yield f"reservation {checkout.reservation_id} has {ledger.reserves[checkout.reservation_id]} reserve events"
        if checkout.paid and ledger.commits[checkout.reservation_id] != 1:
            yield f"order {checkout.reservation_id} has {ledger.commits[checkout.reservation_id]} commit events"
    known = {checkout.reservation_id for checkout in records.reserved}
    if not records.unknown:
        for reservation_id in ledger.reserves.keys() - known:
            yield f"reservation {reservation_id} is in the ledger, but no buyer was told of it"


def shown(verdict: Verdict, seconds: float) -> str:
    lines = [
        f"checkouts      {verdict.checkouts:>8}   in {seconds:.0f} s",
        f"  accepted     {verdict.accepted:>8}   {verdict.accepted / seconds:.0f}/s",
        f"  refused      {verdict.refused:>8}   baskets with at least one line that could not be had",
        *(f"    {name:<12} {count:>8}   lines" for name, count in verdict.refused_lines.items()),
        f"units sold     {verdict.units_sold:>8}",
        f"oversold       {verdict.oversold:>8}   must be 0",
        f"lost           {verdict.lost:>8}   must be 0",
        f"unknown        {verdict.unknown:>8}   checkouts whose answer never came",
        "ledger         " + ", ".join(f"{op} {count}" for op, count in verdict.events.items()),
        "skipped        "
        + (", ".join(f"{count} lines: {reason}" for reason, count in verdict.skipped.items()) or "nothing"),
        *(f"WRONG: {text}" for text in verdict.wrong[:20]),
        f"verdict        {'FAILED' if verdict.wrong else 'passed'}",
    ]
    return "\n".join(lines)
