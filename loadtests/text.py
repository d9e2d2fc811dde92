"""The verdict in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from loadtests import rush
from loadtests.evidence import Evidence
from loadtests.verdict import Verdict

NOT_JUDGED = "not judged"
SHOWN_ABOVE = {"accepted_per_s", "accepted_peak_per_s", "refused_per_s", "commits_per_s", "oversold", "lost"} | {
    f"rush_{what}_per_s" for what in ("accepted", "refused", "commits")
}

MAX_SHOWN = 20
"""Wrong things that are printed. The JSON has them all."""


def shown(verdict: Verdict) -> str:
    """The verdict as a person reads it in a terminal."""
    events = verdict.events
    lines = [
        f"scenario       {verdict.scenario}, {verdict.seconds:.0f} s",
        f"checkouts      {_count(verdict.checkouts)}",
        f"  accepted     {_count(verdict.accepted)}   {_rate(verdict, 'accepted')}",
        f"  refused      {_count(verdict.refused)}   {_rate(verdict, 'refused')}   calls with a line that could not be had",
        *(f"    {name:<12} {count:>8}   lines" for name, count in (verdict.refused_lines or {}).items()),
        f"  committed    {_count(None if events is None else events.get('commit', 0))}   {_rate(verdict, 'commits')}",
        *([f"bot            {_list(verdict.bot)}; not in the lines above"] if verdict.bot else []),
        f"units sold     {_count(verdict.units_sold)}",
        f"oversold       {_count(verdict.oversold)}   must be 0",
        f"lost           {_count(verdict.lost)}   must be 0",
        f"unknown        {_count(verdict.unknown)}   checkouts and payments whose answer never came",
        f"repeated       {_count(verdict.repeated)}   calls, with the same idempotency key, after no answer or a 5xx",
        "payments       " + (_list(verdict.payments) or "by commit only"),
        "ledger         " + _list(events),
        "skipped        "
        + (", ".join(f"{count} lines: {reason}" for reason, count in verdict.skipped.items()) or "nothing"),
        *_figures(verdict),
        *_seconds(verdict.rush or ()),
        *_calls(verdict),
        *(f"note           {note}" for note in verdict.notes),
        *(f"not judged     {', '.join(names)}: {reason}" for reason, names in verdict.not_judged.items()),
        *(f"WRONG: {text}" for text in verdict.wrong[:MAX_SHOWN]),
        f"verdict        {verdict.word}",
    ]
    return "\n".join(line.rstrip() for line in lines)


def _count(value: int | None) -> str:
    return NOT_JUDGED if value is None else f"{value:>8}"


def _rate(verdict: Verdict, what: str) -> str:
    """How fast it was: in a rush its best second, else the mean of the run."""
    if verdict.rush is not None:
        return rush.shown(verdict.figures, f"rush_{what}_per_s")
    mean, best = verdict.figures[f"{what}_per_s"], verdict.figures.get(f"{what}_peak_per_s")
    words = [] if mean is None else [f"{mean:.1f}/s"]
    return "   ".join(words if best is None else [*words, f"{best:.0f} in the best second"])


def _list(counts: Mapping[str, int] | None) -> str:
    return NOT_JUDGED if counts is None else ", ".join(f"{name} {count}" for name, count in counts.items())


def _figures(verdict: Verdict) -> Iterable[str]:
    """What was measured and isn't shown above, with what it had to be."""
    must = {threshold.name: threshold for threshold in verdict.thresholds}
    for name in dict.fromkeys([*verdict.figures, *must]):
        value = verdict.figures.get(name)
        if name in SHOWN_ABOVE or (value is None and name not in must):
            continue
        bound, nothing = "", "not measured"
        if name in must:
            bound = f"   must be {must[name].must_be}" if must[name].bound is not None else "   its threshold is off"
            nothing = NOT_JUDGED if must[name].reason else nothing
        yield f"{name:<24} {nothing if value is None else f'{value:>8.4g}'}{bound}"


def _seconds(seconds: Sequence[rush.Second]) -> Iterable[str]:
    columns = ("requests", "accepted", "refused", "committed", "p50", "p99")
    if seconds:
        yield "second of the rush  " + "".join(f"{name:>10}" for name in columns) + " ms to reserve"
    for each in seconds:
        counts = (each.requests, each.accepted, each.refused, each.committed)
        took = ("" if value is None else f"{value:.0f}" for value in (each.p50_ms, each.p99_ms))
        yield f"  {each.second:<18}" + "".join(f"{value:>10}" for value in (*counts, *took))


def _calls(verdict: Verdict) -> Iterable[str]:
    if Evidence.RECORDS in verdict.missing:
        yield f"calls          {NOT_JUDGED}"
        return
    yield f"{'call':<52} {'count':>7} {'p50':>7} {'p95':>7} {'p99':>7} {'max':>7} ms"
    for each in verdict.endpoints:
        took = f"{each.p50_ms:>7.0f} {each.p95_ms:>7.0f} {each.p99_ms:>7.0f} {each.max_ms:>7.0f}"
        yield f"  {each.name:<50} {each.calls:>7} {took}"
