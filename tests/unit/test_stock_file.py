from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.errors import ConfigurationError
from engine.stock_file import BadLine, BadLines, Row, read
from tests.unit.test_sku_names import SKUS

ALL = "sku,on_hand,name,limit_per_customer\n"
NUMBER = "must be a whole number from 0 to 1000000000 in digits only; it is"
LIMIT = "limit_per_customer must be a whole number from 1 to 1000000000 in digits only, or none; it is"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stock.csv"


def bad_lines(path: Path, content: str | bytes) -> dict[int, str]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(BadLines) as refused:
        read(path)
    numbers = [line.number for line in refused.value.lines]
    assert numbers == sorted(set(numbers))
    assert refused.value.path == path
    assert not any("\n" in line.problem for line in refused.value.lines)
    return {line.number: line.problem for line in refused.value.lines}


def test_a_file_of_two_columns_is_read(path: Path) -> None:
    path.write_text("sku,on_hand\na,5\nb-1,0\n")
    assert read(path) == [Row(2, "a", 5, {}), Row(3, "b-1", 0, {})]


def test_an_empty_cell_leaves_an_attribute_and_none_clears_it(path: Path) -> None:
    path.write_text(ALL + 'a, 5 ,"Shoe, red",2\nb,1,,\nc,1, ,\t\nd,1,none,none\ne,1, none ,\nf,1,,none\n')
    assert read(path) == [
        Row(2, "a", 5, {"name": "Shoe, red", "limit_per_customer": "2"}),
        Row(3, "b", 1, {}),
        Row(4, "c", 1, {}),
        Row(5, "d", 1, {"name": "", "limit_per_customer": ""}),
        Row(6, "e", 1, {"name": ""}),
        Row(7, "f", 1, {"limit_per_customer": ""}),
    ]


def test_optional_columns_come_in_any_order(path: Path) -> None:
    path.write_text(" sku , on_hand,limit_per_customer,name\na,5,2,A\n")
    assert read(path) == [Row(2, "a", 5, {"limit_per_customer": "2", "name": "A"})]


def test_a_byte_order_mark_windows_lines_and_blank_lines_are_understood(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf\r\nsku,on_hand,name\r\na,5,Gr\xc3\xb6\xc3\x9fe\r\n\r\n , ,\r\n,,\r\nb,6,\r\n")
    assert [(row.number, row.sku, row.attributes) for row in read(path)] == [(3, "a", {"name": "Größe"}), (7, "b", {})]


def test_lines_may_end_with_a_carriage_return_alone_or_not_at_all(path: Path) -> None:
    path.write_bytes(b"sku,on_hand\ra,5\rb,6")
    assert read(path) == [Row(2, "a", 5, {}), Row(3, "b", 6, {})]


def test_other_delimiters_are_used_where_they_are_asked_for(path: Path) -> None:
    path.write_text("sku\ton_hand\tname\na b\t5\tShoe\n")
    assert read(path, "\t") == [Row(2, "a b", 5, {"name": "Shoe"})]
    for delimiter in (";", ":", "|"):
        path.write_text(f'sku,on_hand,name\na,5,"Shoe{delimiter} red"\n'.replace(",", delimiter))
        assert read(path, delimiter) == [Row(2, "a", 5, {"name": f"Shoe{delimiter} red"})]


@pytest.mark.parametrize("sku", SKUS)
def test_every_kind_of_sku_is_read(path: Path, sku: str) -> None:
    quoted = sku.replace('"', '""')
    path.write_text(f'sku,on_hand\n" {quoted} ",5\n')
    assert read(path) == [Row(2, sku, 5, {})]


def test_skus_are_taken_in_nfc(path: Path) -> None:
    path.write_text("sku,on_hand\ngro\u0308\u00dfe,5\n")
    assert read(path) == [Row(2, "gr\u00f6\u00dfe", 5, {})]


@pytest.mark.parametrize(
    "name",
    [
        "T\u00a0shirt",
        "\u5168\u89d2\u3000\u6587\u5b57",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "x" * 255,
        'TV 55"',
        "None",
    ],
)
def test_names_of_any_printable_text_are_read_as_they_are(path: Path, name: str) -> None:
    path.write_text(f"{ALL}a,5,{name},\n")
    assert read(path) == [Row(2, "a", 5, {"name": name})]


LINES = [
    ("a,5\nb\n", {3: "it has 1 value, but the header 2 columns; an empty value needs its delimiter, too"}),
    ("a,5,6\n", {2: "it has 3 values, but the header 2 columns; put a value that contains the delimiter in quotes"}),
    ("a  b,5\n", {2: "'a  b' is no SKU: A SKU is 1 to 128 letters"}),
    (",5\n", {2: "the SKU is missing"}),
    (f"{'a' * 129},5\n", {2: f"'{'a' * 40}…' is no SKU"}),
    ("a,-1\n", {2: f"on_hand {NUMBER} '-1'"}),
    ("a,1.0\n", {2: f"on_hand {NUMBER} '1.0'"}),
    ('a,"1,000"\n', {2: f"on_hand {NUMBER} '1,000'"}),
    ("a,\n", {2: f"on_hand {NUMBER} empty"}),
    ("a,none\n", {2: f"on_hand {NUMBER} 'none'"}),
    ("a,\u0665\n", {2: f"on_hand {NUMBER} '\u0665'"}),
    ("a,1000000001\n", {2: f"on_hand {NUMBER} '1000000001'"}),
    ("a,1\nb,2\na,3\n", {4: "the SKU 'a' is on line 2 already"}),
    ("\u00f6,1\no\u0308,2\n", {3: "the SKU '\u00f6' is on line 2 already"}),
    ("x,\u001b[2J\n", {2: f"on_hand {NUMBER} '\\x1b[2J'"}),
]
ATTRIBUTES = [
    ("a,1,A,0\n", {2: f"{LIMIT} '0'"}),
    ("a,1,A,None\n", {2: f"{LIMIT} 'None'"}),
    (f"a,1,{'n' * 256},\n", {2: f"name '{'n' * 40}…': Length must be between 1 and 255"}),
    ("a,1,A\x07,\n", {2: "name 'A\\x07': Has control characters"}),
    ("a  b,x,A\x07,0\n", {2: "is no SKU"}),
    ("a  b,x,A\x07,0\n", {2: f"; on_hand {NUMBER} 'x'; name 'A\\x07'"}),
    ("a  b,x,A\x07,0\n", {2: f"; {LIMIT} '0'"}),
]
QUOTES = [
    ('a,1\n"b,2\nc,3\n', {3: "a quote is opened and never closed"}),
    ('a,1\n"b"x,2\nc,3\n', {3: "text follows a closing quote"}),
    ('a,"5\n"\nb,x\n', {2: "a quoted value goes on to line 3", 4: NUMBER}),
    ('"a,1\nb,2\n"c,3\nd,x\n', {2: "text follows a closing quote", 4: "a quote is opened and never closed", 5: NUMBER}),
    (f"a,{'1' * 200_000}\nb,x\n", {2: "a value is longer than 131072 characters", 3: NUMBER}),
]


@pytest.mark.parametrize(("text", "says"), LINES + QUOTES)
def test_a_bad_line_is_named_with_what_would_be_right(path: Path, text: str, says: dict[int, str]) -> None:
    found = bad_lines(path, f"sku,on_hand\n{text}")
    assert found.keys() >= says.keys()
    assert all(words in found[number] for number, words in says.items())


@pytest.mark.parametrize(("text", "says"), ATTRIBUTES)
def test_a_bad_attribute_is_named_beside_all_else_that_is_wrong_in_its_line(
    path: Path, text: str, says: dict[int, str]
) -> None:
    [(number, words)] = says.items()
    assert words in bad_lines(path, ALL + text)[number]


def test_all_bad_lines_are_found(path: Path) -> None:
    kinds = [text.splitlines()[0] for text, says in LINES if list(says) == [2]]
    rows = [line for at, kind in enumerate(kinds) for line in (f"good-{at},1", kind)]
    found = bad_lines(path, "sku,on_hand\n" + "\n".join(rows) + "\n")
    assert list(found) == [2 * at + 3 for at in range(len(kinds))]


def test_every_byte_that_is_not_text_is_named_with_its_line(path: Path) -> None:
    content = b'sku,on_hand,name\na,1,A\nb,2,caf\xe9\nc,3,C\nd,4,\x00D\n"e\n\xff",5,E\nf,x,F\n'
    assert bad_lines(path, content) == {
        3: "byte 8 (0xe9) isn't UTF-8; save the file as UTF-8",
        5: "byte 5 is NUL; save the file as plain text in UTF-8",
        6: "a quoted value goes on to line 7; close its quote, and write each value on one line",
        7: "byte 1 (0xff) isn't UTF-8; save the file as UTF-8",
        8: f"on_hand {NUMBER} 'x'",
    }


def test_characters_that_look_like_line_breaks_are_none(path: Path) -> None:
    assert list(bad_lines(path, "sku,on_hand,name\na,1,A\u2028B\nb,x,B\x0bC\x85\n")) == [2, 3]


def test_many_thousands_of_bad_lines_are_all_found(path: Path) -> None:
    found = bad_lines(path, "sku,on_hand\n" + "".join(f'"{at},1\n' for at in range(30_000)))
    assert list(found) == list(range(2, 30_002))


HEADERS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is empty; its first line must be sku,on_hand[,name,limit_per_customer]"),
    "blank lines": (b"\xef\xbb\xbf\r\n \n,,\n", "is empty; its first line must be"),
    "no header": (
        b"a,5\n",
        "line 1: it has no sku and no on_hand: 'a,5'; the first line must be sku,on_hand[,name,limit_per_customer]",
    ),
    "a column missing": (
        b"\nsku,quantity\n",
        "line 2: it has no on_hand: 'sku,quantity'; the first line must be sku,on_hand[,name,limit_per_customer]",
    ),
    "another order": (b"on_hand,sku\n5,a\n", "sku and on_hand come first, in this order"),
    "a name between": (b"sku,name,on_hand\na,A,5\n", "sku and on_hand come first, in this order"),
    "an unknown column": (b"sku,on_hand,colour\na,5,red\n", "there is no column 'colour'"),
    "an empty column": (b"sku,on_hand,\na,5,\n", "there is no column ''"),
    "a column twice": (b"sku,on_hand,name,name\na,5,A,A\n", "the column name is there twice"),
    "semicolons": (b'"sku";"on_hand"\na;5\n', "line 1: the columns are separated by ';'; add --delimiter ';'"),
    "tabs": (b"sku\ton_hand\na\t5\n", "line 1: the columns are separated by tab; add --delimiter tab"),
    "an open quote": (b'sku,"on_hand\na,5\n', "line 1: a quote is opened and never closed"),
    "an open quote over lines": (b'sku,"on_hand\na",5\n', "line 1: a quoted value goes on to line 2"),
    "not UTF-8": (b"sku,on_hand,\xff\n", "line 1: byte 13 (0xff) isn't UTF-8; save the file as UTF-8"),
    "UTF-16": ("sku,on_hand\na,5\n".encode("utf-16"), "is in UTF-16; save it as UTF-8"),
    "UTF-16, the other way round": (
        b"\xfe\xff" + "sku,on_hand\n".encode("utf-16-be"),
        "is in UTF-16; save it as UTF-8",
    ),
    "UTF-32": ("sku,on_hand\na,5\n".encode("utf-32"), "is in UTF-32; save it as UTF-8"),
    "UTF-16 without a mark": (
        "sku,on_hand\n".encode("utf-16-le"),
        "line 1: byte 2 is NUL; save the file as plain text in UTF-8",
    ),
}


@pytest.mark.parametrize(("content", "says"), HEADERS.values(), ids=HEADERS.keys())
def test_a_file_without_a_right_header_is_refused_in_one_line(path: Path, content: bytes, says: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as refused:
        read(path)
    assert not isinstance(refused.value, BadLines)
    assert str(refused.value).startswith(str(path))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_wrong_delimiter_on_the_command_line_is_named(path: Path) -> None:
    path.write_text("sku,on_hand\na,5\n")
    with pytest.raises(ConfigurationError, match="separated by ','; add --delimiter ','"):
        read(path, ";")


def test_a_file_that_is_not_there_a_directory_and_one_that_is_not_ours_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't be read: No such file or directory"):
        read(path)
    with pytest.raises(ConfigurationError, match="can't be read: Is a directory"):
        read(tmp_path)
    path.write_text("sku,on_hand\n")
    path.chmod(0)
    # Root reads every file.
    if not os.access(path, os.R_OK):
        with pytest.raises(ConfigurationError, match="can't be read: Permission denied"):
            read(path)


def test_an_error_of_bad_lines_says_how_many_more_there_are(path: Path) -> None:
    error = BadLines(path, [BadLine(2, "it is wrong"), BadLine(3, "it is, too")])
    assert str(error) == f"{path}: line 2: it is wrong (1 more lines are wrong)"
