"""CSV files of stock: sku,on_hand[,name,limit_per_customer].

A file is read as a whole before anything is changed, and every bad line of it is found.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import ConfigurationError
from engine.limits import MAX_ON_HAND
from engine.sku_names import name_problem, sku_of

REQUIRED = ("sku", "on_hand")
ATTRIBUTES = ("name", "limit_per_customer")
HEADER = "sku,on_hand[,name,limit_per_customer]"

CLEAR = "none"
"""A cell that clears an attribute. An empty cell leaves the attribute as it is."""

DELIMITERS = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}
"""Delimiters that a header with the wrong one is tried with, as `--delimiter` names them."""

WIDE_ENCODINGS = {
    "UTF-32": (b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff"),
    "UTF-16": (b"\xff\xfe", b"\xfe\xff"),
}
UTF8_MARK = b"\xef\xbb\xbf"

MAX_REPEATED = 40
"""Characters of a wrong value that its message repeats."""


@dataclass(frozen=True)
class Row:
    """One line. `attributes` has only those that are to be changed; an empty value clears one."""

    number: int
    sku: str
    on_hand: int
    attributes: dict[str, str]


@dataclass(frozen=True)
class BadLine:
    number: int
    problem: str


class BadLines(ConfigurationError):
    """Lines of the file are wrong. `lines` are all of them, in order."""

    def __init__(self, path: Path, lines: Sequence[BadLine]) -> None:
        more = f" ({len(lines) - 1} more lines are wrong)" if len(lines) > 1 else ""
        super().__init__(f"{path}: line {lines[0].number}: {lines[0].problem}{more}")
        self.path = path
        self.lines = lines


@dataclass
class _Text:
    """The lines of a file, read one after the other. `bad` has a problem for each line that isn't text."""

    lines: list[str] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)
    number: int = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.number == len(self.lines):
            raise StopIteration
        self.number += 1
        return self.lines[self.number - 1]


@dataclass(frozen=True)
class _Record:
    """The cells of one line, or why it can't be read."""

    number: int
    cells: list[str]
    problem: str = ""


def read(path: Path, delimiter: str = ",") -> list[Row]:
    """The rows of the file, in order.

    Raises:
        BadLines: lines of it are wrong.
        ConfigurationError: the file as a whole can't be read, or its header is wrong.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}") from error
    text = _text(path, content)
    records = _records(text, delimiter)
    columns = _columns(path, next(records, None), text, delimiter)
    rows, bad = [], []
    first_lines: dict[str, int] = {}
    for record in records:
        problem = record.problem or _problem(record, columns, first_lines)
        if problem:
            bad.append(BadLine(record.number, problem))
        else:
            rows.append(_row(record, columns))
    if bad:
        raise BadLines(path, bad)
    return rows


def _text(path: Path, content: bytes) -> _Text:
    for encoding, marks in WIDE_ENCODINGS.items():
        if content.startswith(marks):
            raise ConfigurationError(f"{path} is in {encoding}; save it as UTF-8")
    text = _Text()
    # bytes.splitlines splits at CR, LF and CR LF only.
    for number, line in enumerate(content.removeprefix(UTF8_MARK).splitlines(keepends=True), 1):
        try:
            text.lines.append(line.decode())
        except UnicodeDecodeError as error:
            text.lines.append(line.decode(errors="replace"))
            text.bad[number] = f"byte {error.start + 1} (0x{line[error.start]:02x}) isn't UTF-8; save the file as UTF-8"
        if b"\0" in line:
            text.bad[number] = f"byte {line.index(0) + 1} is NUL; save the file as plain text in UTF-8"
    return text


def _records(text: _Text, delimiter: str) -> Iterator[_Record]:
    """Every line but blank ones. After a line that can't be read, reading goes on with the next one."""
    while text.number < len(text.lines):
        number = text.number + 1
        try:
            cells = [cell.strip(" \t\r\n") for cell in next(csv.reader(text, delimiter=delimiter, strict=True))]
        except csv.Error as error:
            text.number = number
            yield _Record(number, [], text.bad.get(number) or _advice(str(error)))
            continue
        last = text.number
        problem = text.bad.get(number, "")
        if last > number and not problem:
            problem = f"a quoted value goes on to line {last}; close its quote, and write each value on one line"
        if problem or any(cells):
            yield _Record(number, cells, problem)
        yield from (_Record(at, [], text.bad[at]) for at in range(number + 1, last + 1) if at in text.bad)


def _advice(said: str) -> str:
    """What to do about an error of the csv module."""
    if "unexpected end of data" in said:
        return 'a quote is opened and never closed; write a quote inside a quoted value twice ("")'
    if "expected after" in said:
        return 'text follows a closing quote; write a quote inside a quoted value twice ("")'
    if "field larger than" in said:
        return f"a value is longer than {csv.field_size_limit()} characters; is a quote not closed?"
    return f"it can't be read as CSV: {said}"


def _columns(path: Path, header: _Record | None, text: _Text, delimiter: str) -> list[str]:
    """The names of the columns. Raises: ConfigurationError: the header is wrong; the message says how."""
    if header is None:
        raise ConfigurationError(f"{path} is empty; its first line must be {HEADER}")
    where = f"{path}: line {header.number}"
    problem = header.problem or _header_problem(header.cells)
    if not problem:
        return header.cells
    line = text.lines[header.number - 1].strip()
    for other, name in DELIMITERS.items():
        cells = [cell.strip(' \t"') for cell in line.split(other)]
        if other != delimiter and not _header_problem(cells):
            raise ConfigurationError(f"{where}: the columns are separated by {name}; add --delimiter {name}")
    raise ConfigurationError(f"{where}: {problem}; the first line must be {HEADER}")


def _header_problem(columns: Sequence[str]) -> str:
    """What is wrong with the names of the columns, '' if nothing is."""
    if missing := [name for name in REQUIRED if name not in columns]:
        return f"it has no {' and no '.join(missing)}: {_repeated(','.join(columns))}"
    if unknown := [name for name in columns if name not in REQUIRED + ATTRIBUTES]:
        return f"there is no column {_repeated(unknown[0])}"
    if doubled := [name for name in columns if columns.count(name) > 1]:
        return f"the column {doubled[0]} is there twice"
    return "" if tuple(columns[:2]) == REQUIRED else "sku and on_hand come first, in this order"


def _row(record: _Record, columns: Sequence[str]) -> Row:
    sku, on_hand, *values = record.cells
    given = {column: value for column, value in zip(columns[2:], values, strict=True) if value}
    attributes = {column: "" if value == CLEAR else value for column, value in given.items()}
    return Row(record.number, sku_of(sku), int(on_hand), attributes)


def _problem(record: _Record, columns: Sequence[str], first_lines: dict[str, int]) -> str:
    """What is wrong with the cells of a line, '' if nothing is. `first_lines` are those on which SKUs have been."""
    if (found := len(record.cells)) != len(columns):
        fewer, more = "an empty value needs its delimiter, too", "put a value that contains the delimiter in quotes"
        advice = fewer if found < len(columns) else more
        return f"it has {_counted(found, 'value')}, but the header {_counted(len(columns), 'column')}; {advice}"
    sku, on_hand, *values = record.cells
    problems = [_sku_problem(sku, record.number, first_lines), _number_problem("on_hand", on_hand, 0)]
    for column, value in zip(columns[2:], values, strict=True):
        if value not in ("", CLEAR):
            problems.append(
                _name_problem(value) if column == "name" else _number_problem(column, value, 1, f", or {CLEAR}")
            )
    return "; ".join(filter(None, problems))


def _sku_problem(text: str, number: int, first_lines: dict[str, int]) -> str:
    if not text:
        return "the SKU is missing"
    try:
        sku = sku_of(text)
    except ValueError as error:
        return f"{_repeated(text)} is no SKU: {error}".removesuffix(".")
    first = first_lines.setdefault(sku, number)
    return "" if first == number else f"the SKU {_repeated(sku)} is on line {first} already; keep one of the two"


def _name_problem(name: str) -> str:
    problem = name_problem(name)
    return f"name {_repeated(name)}: {problem}".removesuffix(".") if problem else ""


def _number_problem(column: str, text: str, least: int, alternative: str = "") -> str:
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(MAX_ON_HAND))
    if digits and least <= int(text) <= MAX_ON_HAND:
        return ""
    rule = f"must be a whole number from {least} to {MAX_ON_HAND} in digits only{alternative}"
    return f"{column} {rule}; it is {_repeated(text) if text else 'empty'}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _repeated(text: str) -> str:
    """A wrong value as messages repeat it: on one line and not too long."""
    return repr(text if len(text) <= MAX_REPEATED else text[:MAX_REPEATED] + "…")
