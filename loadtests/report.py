"""The report of a run: one HTML page that needs nothing else, made of the verdict's document alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from loadtests.defaults import SCENARIOS
from loadtests.plots import Line, plot

HERE = Path(__file__).parent
MAX_WRONG = 30
NOT_JUDGED = "not judged"
SIGNS = {"kept": "✓", "missed": "✗", "broken": "✗"}

MEANS = (
    ("accepted_per_s", "reservations accepted / s"),
    ("refused_per_s", "reservations refused / s"),
    ("commits_per_s", "orders paid / s"),
    ("reserve_p99_ms", "ms to reserve, p99"),
)
RUSH = (
    ("rush_requests_per_s", "requests in the rush's best second"),
    ("rush_accepted_per_s", "reservations accepted in its best second"),
    ("sold_out_after_s", "s until it was sold out"),
    ("rush_first_second_p99_ms", "ms to reserve in its first second, p99"),
)
TILES = (
    ("expiry_lag_p99_ms", "ms from deadline to expiry, p99"),
    ("oversold", "units oversold"),
    ("lost", "units lost"),
    ("false_refusals", "false refusals"),
)

WORDS = {
    "accepted_per_s": "reservations accepted a second, mean over the whole run",
    "accepted_peak_per_s": "the same in the best second",
    "refused_per_s": "calls refused a second, for a line that could not be had, mean over the whole run",
    "commits_per_s": "orders paid a second, mean over the whole run",
    "rush_requests_per_s": "calls of any kind in the best second of the rush",
    "rush_accepted_per_s": "reservations accepted in the best second of the rush",
    "rush_refused_per_s": "calls refused in the best second of the rush",
    "rush_commits_per_s": "orders paid in the best second of the rush",
    "rush_first_second_p50_ms": "ms to reserve, of the calls made in the first second of the rush, p50",
    "rush_first_second_p99_ms": "the same, p99",
    "sold_out_after_s": "s from the beginning of the rush until it was sold out",
    "conversion": "orders paid for each reservation accepted",
    "turnover": "units reserved for each unit supplied; above 1, units came back and were sold again",
    "hot_sku_share": "share of the most wanted SKU in all units reserved",
    "expiry_lag_p50_ms": "ms from a hold's deadline to its expiry, p50",
    "expiry_lag_p99_ms": "the same, p99",
    "expiry_lag_max_ms": "the same, at most",
    "expired_early": "holds that were ended before their deadline",
    "reserve_p99_ms": "ms to reserve, p99",
    "sold_out_p99_ms": "ms to be told that it is sold out, p99",
    "unsold": "units that nobody bought",
    "oversold": "units sold or held beyond what there was, at the end or at any point of the ledger",
    "lost": "units that the books don't account for",
    "errors": "calls given up, or answered as they should not be",
    "false_refusals": "lines refused though there was enough, free or due, all through the call",
    "above_limit": "customers who had more than they may, at any point of the ledger",
    "p99_without_bot_ms": "ms that honest buyers' calls took before the bot came, p99",
    "p99_with_bot_ms": "the same with the bot",
    "bot_slowdown": "how many times longer that is, where 50 ms is the least that counts",
    "success_without_bot": "share of honest checkouts accepted before the bot came",
    "success_with_bot": "the same with the bot",
    "first_fifth_p95_ms": "ms that calls took in the first fifth, p95",
    "last_fifth_p95_ms": "the same in the last fifth",
    "latency_drift": "how many times longer that is, where 50 ms is the least that counts",
}


def page(document: Mapping[str, Any]) -> str:
    """The whole page. No other host is asked for anything."""
    passed = document["passed"]
    name = document["scenario"].replace("_", " ").capitalize()
    verdict = "interrupted" if document["interrupted"] else "passed" if passed else "failed"
    sign = "✓" if passed else "✗"
    badge = f'<span class="badge {"passed" if passed else "failed"}">{sign} {verdict.capitalize()}</span>'
    says = SCENARIOS[document["scenario"]].says
    started = document["started_at"].replace("T", " ").replace("+00:00", " UTC")
    checkouts = "" if document["checkouts"] is None else f", {document['checkouts']:,} checkouts"
    about = f"{document['users']} users, {document['seconds']:.0f} s{checkouts}"
    tiles = (*(MEANS if document["rush"] is None else RUSH), *TILES)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(name)}: {verdict} &ndash; Stockade load test</title>
<style>{(HERE / "report.css").read_text()}</style>
</head>
<body>
<header><h1>{escape(name)}</h1>{badge}</header>
<p class="sub">{escape(says[:1].upper() + says[1:])}. {escape(about)}, started {escape(started)}</p>
{_wrong(document["wrong"])}
<div class="tiles">{"".join(_tile(document, *tile) for tile in tiles)}</div>
{_rush(document["rush"])}
{_plots(document["series"])}
<h2>Calls</h2>
{_calls(document["endpoints"])}
<h2>Thresholds</h2>
{_thresholds(document["thresholds"])}
<h2>Checks</h2>
{_checks(document["checks"])}
<h2>Figures</h2>
{_figures(document)}
{_notes(document["notes"])}
<footer>Stockade load test of {escape(document["host"])}, run {escape(document["run"])}, seed {escape(str(document["seed"]))},
{document["workers"]} locust process{"es" if document["workers"] != 1 else ""}. Calls were timed where the buyers are.</footer>
<script>{(HERE / "report.js").read_text()}</script>
</body>
</html>
"""


def _tile(document: Mapping[str, Any], name: str, words: str) -> str:
    value = document["figures"].get(name)
    if value is None:
        return ""
    if name == "accepted_per_s" and document["figures"]["accepted_peak_per_s"] is not None:
        words += f"; {_number(document['figures']['accepted_peak_per_s'])} in the best second"
    off = any(each["name"] == name and each["kept"] is False for each in document["thresholds"])
    return f'<div class="tile{" off" if off else ""}"><b>{_number(value)}</b><span>{words}</span></div>'


def _wrong(wrong: Sequence[str]) -> str:
    if not wrong:
        return ""
    more = [f"… and {len(wrong) - MAX_WRONG} more, in the JSON"] if len(wrong) > MAX_WRONG else []
    return f'<h2>What is wrong</h2><div class="card wrong">{_list([*wrong[:MAX_WRONG], *more])}</div>'


def _notes(notes: Sequence[str]) -> str:
    return f'<h2>Notes</h2><div class="card">{_list(notes)}</div>' if notes else ""


def _list(words: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(each)}</li>' for each in words)}</ul>"


def _plots(series: Mapping[str, Any]) -> str:
    step = series["step_s"]
    stock = [
        Line("allocated", "aqua", series["allocated"]),
        Line("reserved", "blue", series["reserved"]),
        Line("available", "yellow", series["available"]),
    ]
    throughput = [
        Line("committed", "aqua", series["committed"]),
        Line("accepted", "blue", series["accepted"]),
        Line("refused", "orange", series["refused"]),
    ]
    latency = [Line("p50", "pale", series["p50_ms"]), Line("p99", "deep", series["p99_ms"])]
    return (
        plot("Stock by status", "units", stock, step, stacked=True)
        + plot("Throughput", "a second", throughput, step)
        + plot("Latency of all calls", "ms", latency, step)
    )


def _rush(seconds: Sequence[Mapping[str, Any]] | None) -> str:
    if not seconds:
        return ""
    columns = ("second", "requests", "accepted", "refused", "committed", "p50_ms", "p99_ms")
    rows = [[_number(each[column]) for column in columns] for each in seconds]
    head = ["second", "requests", "accepted", "refused", "committed", "p50 ms to reserve", "p99 ms"]
    return f"<h2>The rush</h2>{_table(head, rows)}"


def _calls(endpoints: Sequence[Mapping[str, Any]]) -> str:
    if not endpoints:
        return f'<div class="card">{NOT_JUDGED}</div>'
    columns = ("calls", "p50_ms", "p95_ms", "p99_ms", "max_ms")
    rows = [[escape(each["name"]), *(_number(each[column]) for column in columns)] for each in endpoints]
    return _table(["call", "count", "p50 ms", "p95 ms", "p99 ms", "max ms"], rows)


def _thresholds(measured: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            escape(each["name"]),
            "off" if each["bound"] is None else f"{'≥' if each['at_least'] else '≤'} {_number(each['bound'])}",
            _number(each["value"]),
            _result(each),
        ]
        for each in measured
    ]
    return _table(["figure", "must be", "is", ""], rows).replace("<td>✗</td>", '<td class="no">✗</td>')


def _checks(checks: Sequence[Mapping[str, Any]]) -> str:
    rows = [[escape(each["name"]), escape(each["rule"]), _result(each)] for each in checks]
    return _table(["check", "what must be true", ""], rows).replace("<td>✗</td>", '<td class="no">✗</td>')


def _result(each: Mapping[str, Any]) -> str:
    """A sign where it was judged, else a word and why."""
    reason = f": {each['reason']}" if each["result"] == NOT_JUDGED else ""
    return escape(SIGNS.get(each["result"], each["result"]) + reason)


def _figures(document: Mapping[str, Any]) -> str:
    rows = [
        [escape(WORDS.get(name, name)), _number(value)]
        for name, value in document["figures"].items()
        if value is not None
    ]
    rows += [
        [f"{escape(name)} of the bot, in no other rate", _number(n)] for name, n in (document["bot"] or {}).items()
    ]
    rows += [
        [f"lines refused as {escape(verdict)}", _number(n)] for verdict, n in (document["refused_lines"] or {}).items()
    ]
    rows += [
        [f"payments answered {escape(outcome)}", _number(n)] for outcome, n in (document["payments"] or {}).items()
    ]
    rows += [[f"{escape(op)} events in the ledger", _number(n)] for op, n in (document["events"] or {}).items()]
    rows += [
        *_whole_numbers(document),
    ]
    return _table(["", ""], rows)


def _whole_numbers(document: Mapping[str, Any]) -> Iterable[list[str]]:
    counted = (
        ("repeated", "calls repeated with the same idempotency key, after no answer or a 5xx"),
        ("throttled", "calls throttled (429)"),
        ("unknown", "checkouts and payments whose answer never came"),
    )
    return [[words, NOT_JUDGED if document[name] is None else _number(document[name])] for name, words in counted]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already."""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    top = f"<thead><tr>{''.join(f'<th>{each}</th>' for each in head)}</tr></thead>" if any(head) else ""
    return f'<div class="card"><table>{top}<tbody>{body}</tbody></table></div>'


def _number(value: float | None) -> str:
    if value is None:
        return "&ndash;"
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
