"""CSV files of stock: sku,on_hand[,name,limit_per_customer]. A file with an error changes nothing."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from engine.errors import ConfigurationError
from engine.limits import MOST_ON_HAND, SKU_PATTERN

COLUMNS = ("sku", "on_hand", "name", "limit_per_customer")


@dataclass(frozen=True)
class Row:
    number: int
    sku: str
    on_hand: int
    attributes: dict[str, str]


def read(path: Path) -> list[Row]:
    """Raises: ConfigurationError: the file can't be read, or a line of it is wrong; the message names the line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = reader.fieldnames or []
            known = set(header) <= set(COLUMNS) and len(set(header)) == len(header)
            if list(header[:2]) != list(COLUMNS[:2]) or not known:
                raise ConfigurationError(f"{path}: the first line must be sku,on_hand[,name,limit_per_customer]")
            rows = [_row(path, reader.line_num, fields) for fields in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"{path} can't be read: {error}") from error
    seen: dict[str, int] = {}
    for row in rows:
        if row.sku in seen:
            raise ConfigurationError(f"{path}: line {row.number}: {row.sku} is on line {seen[row.sku]} already")
        seen[row.sku] = row.number
    return rows


def _row(path: Path, number: int, fields: dict[str, str | None]) -> Row:
    where = f"{path}: line {number}"
    if None in fields or None in fields.values():
        raise ConfigurationError(f"{where}: it has not as many columns as the first line")
    values = {name: (value or "").strip() for name, value in fields.items()}
    sku, name, limit = values["sku"], values.get("name", ""), values.get("limit_per_customer", "")
    if not re.fullmatch(SKU_PATTERN, sku):
        raise ConfigurationError(f"{where}: {sku!r} is no SKU")
    if len(name) > 255 or not name.isprintable():
        raise ConfigurationError(f"{where}: the name is longer than 255 or has control characters")
    on_hand = _whole(where, "on_hand", values["on_hand"], 0)
    if limit:
        _whole(where, "limit_per_customer", limit, 1)
    given = {"name": name, "limit_per_customer": limit}
    return Row(number, sku, on_hand, {column: value for column, value in given.items() if column in values})


def _whole(where: str, column: str, text: str, least: int) -> int:
    if not re.fullmatch(r"\d{1,10}", text, re.ASCII) or not least <= int(text) <= MOST_ON_HAND:
        raise ConfigurationError(
            f"{where}: {column} must be a whole number from {least} to {MOST_ON_HAND}; it is {text!r}"
        )
    return int(text)
