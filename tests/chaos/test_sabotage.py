"""Whether the defects of `tests.chaos.sabotage` can still be planted; what chaos says to them takes minutes and isn't asked here."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.invariants import Invariant
from tests.chaos.defects import DEFECTS, Defect
from tests.chaos.faults import FAULTS
from tests.chaos.sabotage import NO_END, ROOT, Verdict, named

each_defect = pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)


@each_defect
def test_a_defect_has_a_place_in_the_product_and_leaves_code_that_runs(defect: Defect) -> None:
    texts: dict[str, str] = {}
    for change in defect.changes:
        before = texts.get(change.path) or (ROOT / change.path).read_text()
        texts[change.path] = change.planted(before)
        assert texts[change.path] != before
    for path, text in texts.items():
        if Path(path).suffix == ".py":
            compile(text, path, "exec")
    assert set(defect.faults) <= FAULTS.keys()


def test_violations_are_counted_by_the_word_before_the_colon() -> None:
    said = "seed 1     1  back after   0.62 s  ok      flushall\nfold: a\nfold: b\nconservation: c\nTraceback: d\n"
    assert named(said) == {Invariant.FOLD: 2, Invariant.CONSERVATION: 1}
    assert named(f"the run of seed 1 {NO_END}: TimeoutError") == {NO_END: 1}
    assert not named("violations 0\n")


def test_a_defect_counts_as_found_only_by_an_invariant_that_it_was_expected_to_break() -> None:
    defect = Defect("a defect", (), (Invariant.FOLD,))
    assert Verdict(1.0, named("fold: a\n"), "").catches(defect)
    assert not Verdict(1.0, named("holds: a\n"), "").catches(defect)
