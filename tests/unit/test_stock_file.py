from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import ConfigurationError
from engine.stock_file import Row, read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stock.csv"


def test_a_file_of_two_columns_is_read(path: Path) -> None:
    path.write_text("sku,on_hand\na,5\nb-1,0\n")
    assert read(path) == [Row(2, "a", 5, {}), Row(3, "b-1", 0, {})]


def test_a_file_of_four_columns_is_read_and_an_empty_cell_clears(path: Path) -> None:
    path.write_text('sku,on_hand,name,limit_per_customer\na, 5 ,"Shoe, red",2\nb,1,,\n')
    assert read(path) == [
        Row(2, "a", 5, {"name": "Shoe, red", "limit_per_customer": "2"}),
        Row(3, "b", 1, {"name": "", "limit_per_customer": ""}),
    ]


def test_optional_columns_come_in_any_order(path: Path) -> None:
    path.write_text("sku,on_hand,limit_per_customer\na,5,2\n")
    assert read(path) == [Row(2, "a", 5, {"limit_per_customer": "2"})]


def test_a_byte_order_mark_windows_lines_and_blank_lines_are_understood(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbfsku,on_hand,name\r\na,5,Gr\xc3\xb6\xc3\x9fe\r\n\r\nb,6,\r\n")
    assert [(row.number, row.sku, row.attributes["name"]) for row in read(path)] == [(2, "a", "Größe"), (4, "b", "")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the first line must be sku,on_hand"),
        ("a,5\n", "the first line must be sku,on_hand"),
        ("on_hand,sku\n5,a\n", "the first line must be sku,on_hand"),
        ("sku,on_hand,colour\na,5,red\n", "the first line must be sku,on_hand"),
        ("sku,on_hand\na,5\nb\n", "line 3: it has not as many columns"),
        ("sku,on_hand\na,5,6\n", "line 2: it has not as many columns"),
        ("sku,on_hand\na b,5\n", "line 2: 'a b' is no SKU"),
        ("sku,on_hand\n,5\n", "line 2: '' is no SKU"),
        (f"sku,on_hand\n{'a' * 65},5\n", "is no SKU"),
        ("sku,on_hand\na,-1\n", "line 2: on_hand must be a whole number from 0 to 1000000000; it is '-1'"),
        ("sku,on_hand\na,1.0\n", "on_hand must be a whole number"),
        ("sku,on_hand\na,\n", "on_hand must be a whole number"),
        ("sku,on_hand\na,\u0665\n", "on_hand must be a whole number"),
        ("sku,on_hand\na,1000000001\n", "on_hand must be a whole number"),
        ("sku,on_hand,name,limit_per_customer\na,1,A,0\n", "line 2: limit_per_customer must be a whole number from 1"),
        (f"sku,on_hand,name\na,1,{'n' * 256}\n", "line 2: the name is longer than 255"),
        ("sku,on_hand,name\na,1,A\x07\n", "line 2: the name is longer than 255 or has control characters"),
        ("sku,on_hand\na,1\nb,2\na,3\n", "line 4: a is on line 2 already"),
        ('sku,on_hand\na,"1\n', "can't be read"),
    ],
)
def test_a_file_with_an_error_is_refused_in_one_line_that_names_the_place(path: Path, text: str, says: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        read(path)
    assert says in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_text_is_refused(path: Path) -> None:
    path.write_bytes(b"sku,on_hand\n\xff\xfe,1\n")
    with pytest.raises(ConfigurationError, match="can't be read"):
        read(path)


def test_a_file_that_is_not_there_is_refused(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't be read"):
        read(path)
