from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from engine.engine import Engine
from tests import books, script_rows
from tests.all_rows import ROWS
from tests.integration.shops import each_kind
from tests.redis_clis import RedisCli, both
from tests.script_rows import KEYS, SOURCES, Call, Row, Step, perform, run

ROOT = Path(__file__).parents[2]
WORDS = {
    "SKU": "a",
    "ID": "r1",
    "ORDER": "r1",
    "USER": "ann",
    "ACTOR": "ann",
    "REQUEST": "q",
    "REASON": "left",
    "PAYMENT": "p1",
    "RUN": "none",
}
A_CART = (script_rows.put(KEYS.cart("r1"), "created_ms", 1),)

pytestmark = each_kind


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_script_answers_and_ends_as_its_row_says(engine: Engine, row: Row) -> None:
    run(engine, row)


BY_HAND: dict[str, tuple[tuple[Step, ...], str]] = {
    "admit_cart": ((), "admitted"),
    "adjust": ((script_rows.stock(5),), "adjusted"),
    "adopt": ((script_rows.stock(5),), "adopted"),
    "bind_cart": (A_CART, "bound"),
    "cancel": (script_rows.PAID, "cancelled"),
    "close": (script_rows.HELD, "shut"),
    "commit": (script_rows.HELD, "committed"),
    "configure": ((script_rows.stock(5),), "would_change"),
    "default_hold": ((), "set"),
    "delete_cart": (A_CART, "deleted"),
    "empty_cart": (A_CART, "emptied"),
    "expire": (script_rows.DUE, "expired"),
    "extend": (script_rows.HELD, "extended"),
    "fulfil": (script_rows.PAID, "fulfilled"),
    "note": (script_rows.HELD, "noted"),
    "open": ((script_rows.close(token="ann"),), "opened"),
    "put_line": (A_CART, "put"),
    "recall": ((script_rows.stock(5),), "recalled"),
    "refund": ((*script_rows.HELD, script_rows.commit(payment="p0")), "refund_required"),
    "release": (script_rows.HELD, "released"),
    "reserve": ((script_rows.stock(5),), "reserved"),
    "restore": ((script_rows.close(token="ann"),), "restored"),
    "selling": ((), "set"),
    "set_lines": (A_CART, "set"),
    "trim": (script_rows.HELD, "trimmed"),
}


@both
@pytest.mark.parametrize("name", SOURCES)
def test_a_script_runs_by_hand_as_its_header_says(engine: Engine, server: str, name: str, redis_cli: RedisCli) -> None:
    start, status = BY_HAND[name]
    for step in start:
        if isinstance(step, Call):
            perform(engine.store, step)
        else:
            step(engine.store)
    [line] = re.findall(r"^-- By hand: redis-cli (.*)$", SOURCES[name], re.MULTILINE)
    command = [re.sub(r"\b[A-Z]{2,}\b", filled, word) for word in shlex.split(line)]
    assert redis_cli(server, *command).lines[0] == status


def test_trim_lets_go_of_what_postgres_has_but_not_of_the_latest_nor_of_what_it_lacks(engine: Engine) -> None:
    count, reached, keep = 2_000, 1_800, 1_000
    perform(engine.store, script_rows.stock(5))
    for number in range(2, count + 1):
        perform(engine.store, script_rows.adjust(1, operation=f"o{number}", most=count + 5))
    status, trimmed = perform(engine.store, script_rows.trim(reached, keep=keep))
    assert status == "trimmed"
    # Redis lets go of whole nodes of the stream only.
    assert reached - keep - 200 < trimmed < reached - keep
    left = books.events(engine.store)
    assert [event.seq for event in left] == list(range(trimmed + 1, count + 1))
    assert books.walked(engine.store) == []


def filled(placeholder: re.Match[str]) -> str:
    return WORDS.get(placeholder[0], placeholder[0])
