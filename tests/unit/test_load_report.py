from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from loadtests.defaults import SCENARIOS
from loadtests.figures import series
from loadtests.ledger import fold
from loadtests.plots import Line, plot
from loadtests.report import page
from loadtests.run import seconds
from loadtests.verdict import judge
from tests.unit.test_load_verdict import START_MS, STORY, case

NOT_CLOSED = {"meta", "br", "hr", "img", "input", "link"}


def document(**more: Any) -> dict[str, Any]:
    judged = case()
    about = {"started_at": "2026-11-22T14:00:00+00:00", "host": "http://here", "users": 2, "workers": 1, "seed": "1"}
    drawn = series(judged.records, fold(STORY, "run-"), START_MS, START_MS + 9_000)
    return judge(judged).document() | about | {"run": "run-", "series": drawn} | more


class Balanced(HTMLParser):
    """Notes tags that aren't closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in NOT_CLOSED:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_the_page_asks_no_other_host_for_anything() -> None:
    text = page(document())
    assert re.findall(r"""(?:src|href|url\(|@import)""", text) == []
    assert set(re.findall(r"https?://[\w.]+", text)) == {"http://here"}


def test_the_page_is_well_formed_and_has_three_plots() -> None:
    text = page(document())
    parser = Balanced()
    parser.feed(text)
    assert (parser.open, parser.wrong) == ([], [])
    assert text.count("<svg") == 3
    for data in re.findall(r'data-plot="([^"]*)"', text):
        assert len(json.loads(data.replace("&quot;", '"'))["lines"]) in (2, 3)


def test_the_page_says_first_whether_the_run_passed() -> None:
    assert "✓ Passed" in page(document())
    failed = page(document(passed=False, wrong=["2 of <mug> & more are gone"]))
    assert "✗ Failed" in failed
    assert "2 of &lt;mug&gt; &amp; more are gone" in failed
    assert failed.index("are gone") < failed.index("<svg")


def test_the_page_of_an_interrupted_run_says_so() -> None:
    text = page(document(passed=False, interrupted=True))
    assert "✗ Interrupted" in text
    assert "Passed" not in text


def test_the_page_has_no_row_for_what_was_not_measured_but_its_threshold() -> None:
    threshold = {"name": "sold_out_p99_ms", "bound": 9, "value": None, "at_least": False, "kept": None}
    threshold |= {"reason": "", "result": "not measured"}
    text = page(document(thresholds=[threshold]))
    assert "told that it is sold out" not in text
    assert "<td>not measured</td>" in text


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_has_a_locustfile_a_sentence_and_a_line_in_the_docs(name: str) -> None:
    root = Path(__file__).parents[2]
    assert f"locust -f loadtests/scenarios/{name}.py" in (root / "loadtests" / "scenarios" / f"{name}.py").read_text()
    assert f"| `{name}` |" in (root / "docs" / "load-testing.md").read_text()
    assert SCENARIOS[name].says


def test_a_plot_is_interrupted_where_there_is_no_value() -> None:
    drawn = plot("Latency", "ms", [Line("p50", "pale", [1, None, 2, 3])], 1)
    [path] = re.findall(r'class="line pale" d="([^"]*)"', drawn)
    assert path.count("M") == 2


def test_a_plot_of_nothing_is_drawn_all_the_same() -> None:
    assert "<svg" in plot("Stock", "units", [Line("available", "aqua", [])], 1, stacked=True)


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("90s", 90), ("2m", 120), ("1h30m", 5_400)])
def test_a_time_is_taken_as_locust_takes_it(text: str, value: int) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "0", "soon", "2 m", "m2", "-5", "1.5m"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="no time"):
        seconds(text)
