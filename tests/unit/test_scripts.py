from __future__ import annotations

import re

import pytest

from engine.engine import Engine
from tests.script_rows import ROWS, SOURCES, Row, run


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_script_answers_and_ends_as_its_row_says(fake_engine: Engine, row: Row) -> None:
    run(fake_engine, row)


@pytest.mark.parametrize("name", SOURCES)
def test_every_status_in_a_script_s_header_has_a_row(name: str) -> None:
    listed = set(re.findall(r"^--   \{'(\w+)'", SOURCES[name], re.MULTILINE))
    assert listed == {row.reply[0] for row in ROWS if row.call.script == name}
