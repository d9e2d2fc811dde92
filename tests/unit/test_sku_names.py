from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.sku_names import is_sku, name_problem, shown, sku_of, stored
from engine.values import Line, packed, unpacked

SKUS = [
    "Red Shirt/XL",
    "a+b",
    "50%",
    "#1",
    "größe-42",
    "a=b",
    "%20",
    "{p0}",
    "'q'",
    '"',
    "\\",
    "x" * 128,
    "-5XL",
    "日本",
    "👟",
    "?",
    "*",
    "...",
]


def skus() -> st.SearchStrategy[str]:
    """SKUs of all kinds."""
    letters = st.characters(codec="utf-8", categories=["L", "M", "N", "P", "S"]) | st.sampled_from(" =%/")
    return st.text(letters, min_size=1, max_size=40).map(lambda text: unicodedata.normalize("NFC", text)).filter(is_sku)


@pytest.mark.parametrize("sku", SKUS)
def test_a_sku_has_letters_marks_numbers_punctuation_symbols_and_single_inner_spaces(sku: str) -> None:
    assert sku_of(sku) == sku


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        " a",
        "a ",
        "a  b",
        "a\tb",
        "a\nb",
        "a\x00",
        "a\u00a0b",
        "a\u200db",
        "a\u200b",
        "\ue000",
        "\ufffe",
        "a\u3000b",
        "x" * 129,
        "\ud800",
    ],
)
def test_anything_else_is_no_sku(text: str) -> None:
    assert not is_sku(text)
    with pytest.raises(ValueError, match="A SKU is 1 to 128 letters"):
        sku_of(text)


def test_a_sku_is_compared_after_nfc() -> None:
    assert sku_of("gro\u0308ße") == "größe"
    assert not is_sku("gro\u0308ße")


@given(skus())
def test_the_stored_form_has_no_character_that_ends_a_word(sku: str) -> None:
    assert " " not in stored(sku)
    assert "=" not in stored(sku)
    assert len(stored(sku).split()) == 1
    assert shown(stored(sku)) == sku


@given(st.lists(st.tuples(skus(), st.integers(-(10**9), 10**9)), max_size=5))
def test_packed_lines_are_unpacked_to_what_they_were(pairs: list[tuple[str, int]]) -> None:
    lines = tuple(Line(sku, quantity) for sku, quantity in pairs)
    assert unpacked(packed(lines)) == lines


@given(st.lists(skus(), min_size=2, max_size=2, unique=True))
def test_two_skus_have_two_stored_forms(two: list[str]) -> None:
    assert stored(two[0]) != stored(two[1])


@pytest.mark.parametrize(
    "name",
    [
        "T\u00a0shirt",
        "全角\u3000空白",
        "👨\u200d👩\u200d👧",
        "🏴\U000e0067\U000e0062\U000e007f",
        "a\u200cb",
        " a ",
    ],
)
def test_names_may_have_any_printable_text(name: str) -> None:
    assert name_problem(name) is None


@pytest.mark.parametrize("name", ["a\x00", "a\nb", "a\x7f", "\u2028", "\u200b", "\u202e", "\ue000", "\ud800"])
def test_names_have_no_control_characters(name: str) -> None:
    assert name_problem(name) == "Has control characters, or others that can't be printed."


def test_names_have_1_to_255_characters() -> None:
    assert name_problem("") == name_problem("x" * 256) == "Length must be between 1 and 255."
    assert name_problem("x" * 255) is None
