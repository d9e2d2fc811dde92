"""The mutator of `make mutants`: what it makes of a source, and that all of it runs."""

from __future__ import annotations

import warnings
from collections import Counter

import pytest
from lupa.lua51 import LuaRuntime  # type: ignore[import-untyped]

from tests.mutation import judge, lua, python, quick, sample
from tests.mutation.mutant import Mutant
from tests.mutation.survivors import SURVIVORS

SOURCES = sample.sources()
ALL = sample.all_mutants(SOURCES)

SCRIPT = """-- call: if not 1 then redis.call('SET') end

local key, units = KEYS[1], tonumber(ARGV[1])
-- Even this: if 1 < 2 then return true end
if not units or units <= 7 then return {'and', -1} end
redis.call('HSET', key, 'a', units + 1, 'b', math.min(units, #ARGV))
if units > 8 then redis.call('XADD', key, '*', 'op', units, 'why', '') end
"""
MODULE = '''"""If not 1 < 2: it says so."""

PAGE = 500
MOVES = {"withdraw": -1}


def left(units: int | None, *, known: bool = True) -> int:
    log.info("left", units=units or 7)
    if units is None or not (units >= 7):
        raise ValueError(f"{units + 1}")
    noted.append(units)
    return min(units - 1 for units in (units,) if known)
'''


def made(mutants: list[Mutant], source: str) -> Counter[tuple[str, str]]:
    return Counter((mutant.kind, " -> ".join(mutant_words(mutant, source))) for mutant in mutants)


def mutant_words(mutant: Mutant, source: str) -> tuple[str, str]:
    return source[mutant.start : mutant.end], mutant.wrong


def test_a_script_is_changed_in_its_code_only() -> None:
    assert made(list(lua.mutants("lua/call.lua", SCRIPT)), SCRIPT) == Counter(
        [
            ("condition", "not units or units <= 7 -> not (not units or units <= 7)"),
            ("check", "not units or units <= 7 -> false"),
            ("condition", "not -> "),
            ("logic", "or -> and"),
            ("comparison", "<= -> <"),
            ("number", "7 -> 8"),
            ("number", "7 -> 6"),
            ("arithmetic", "- -> "),
            ("number", "1 -> 2"),
            ("number", "1 -> 0"),
            ("write", "redis.call('HSET', key, 'a', units + 1, 'b', math.min(units, #ARGV)) -> "),
            ("field", ", 'a', units + 1 -> "),
            ("field", ", 'b', math.min(units, #ARGV) -> "),
            ("arithmetic", "+ -> -"),
            ("number", "1 -> 2"),
            ("number", "1 -> 0"),
            ("bound", "min -> max"),
            ("condition", "units > 8 -> not (units > 8)"),
            ("check", "units > 8 -> false"),
            ("comparison", "> -> >="),
            ("number", "8 -> 9"),
            ("number", "8 -> 7"),
            ("write", "redis.call('XADD', key, '*', 'op', units, 'why', '') -> "),
            ("field", "units -> ''"),
        ]
    )


def test_a_module_is_changed_where_it_decides() -> None:
    assert made(list(python.mutants("engine/left.py", MODULE)), MODULE) == Counter(
        [
            ("arithmetic", "- -> "),
            ("number", "1 -> 2"),
            ("number", "1 -> 0"),
            ("constant", "True -> False"),
            ("condition", "units is None or not (units >= 7) -> not (units is None or not (units >= 7))"),
            ("check", "units is None or not (units >= 7) -> False"),
            ("logic", "or -> and"),
            ("comparison", "is -> is not"),
            ("condition", "not  -> "),
            ("comparison", ">= -> >"),
            ("number", "7 -> 8"),
            ("number", "7 -> 6"),
            ("write", 'raise ValueError(f"{units + 1}") -> pass'),
            ("write", "noted.append(units) -> pass"),
            ("bound", "min -> max"),
            ("arithmetic", "- -> +"),
            ("number", "1 -> 2"),
            ("number", "1 -> 0"),
            ("condition", "known -> not (known)"),
            ("check", "known -> True"),
        ]
    )


def test_a_statement_of_several_lines_is_left_out_whole() -> None:
    source = "-- set\n\nlocal key = KEYS[1]\nlocal n = {}\nn[1] = {a = 1,\n  b = 2}\nredis.call('SET', key,\n  1)\nreturn n\n"
    texts = [mutant.of(source) for mutant in lua.mutants("lua/set.lua", source) if mutant.kind == "write"]
    head = "-- set\n\nlocal key = KEYS[1]\nlocal n = {}\n"
    assert texts == [
        f"{head}\nredis.call('SET', key,\n  1)\nreturn n\n",
        f"{head}n[1] = {{a = 1,\n  b = 2}}\n\nreturn n\n",
    ]


@pytest.mark.parametrize("path", SOURCES)
def test_every_mutant_differs_from_every_other_and_compiles(path: str) -> None:
    texts = [mutant.of(SOURCES[path]) for mutant in ALL[path]]
    assert len({*texts, SOURCES[path]}) == len(texts) + 1
    if path.endswith(".lua"):
        runtime = LuaRuntime()
        for text in texts:
            runtime.compile(text)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        for text in texts:
            compile(text, path, "exec")


def test_what_is_the_same_in_all_scripts_letter_for_letter_is_changed_in_one() -> None:
    head = "local now_ms = math.max(time[1]"
    having = [
        path
        for path, source in SOURCES.items()
        if f"{head} * 1000 + math.floor(time[2] / 1000), tonumber(meta[4]))" in source
    ]
    changed = [
        path for path in having if any(mutant.changed(SOURCES[path])[0].startswith(head) for mutant in ALL[path])
    ]
    assert changed == having[:1]
    assert len(having) > 10


def test_a_sample_has_every_file_and_every_kind_and_its_seed_repeats() -> None:
    drawn = sample.drawn(ALL, 300, 1)
    assert 290 <= len(drawn) <= 320
    assert {mutant.path for mutant in drawn} == set(SOURCES)
    assert {mutant.kind for mutant in drawn} == {mutant.kind for found in ALL.values() for mutant in found}
    assert drawn == sample.drawn(ALL, 300, 1) != sample.drawn(ALL, 300, 2)


def test_every_survivor_that_is_listed_is_one_mutant_and_only_that() -> None:
    for survivor in SURVIVORS:
        assert survivor.why
        found = ALL[survivor.path]
        same = [mutant for mutant in found if survivor.is_of(mutant, SOURCES[survivor.path])]
        assert len(same) == 1, survivor


def test_a_changed_line_is_shown_as_a_diff() -> None:
    [mutant] = [
        mutant for mutant in lua.mutants("lua/call.lua", SCRIPT) if (mutant.kind, mutant.wrong) == ("bound", "max")
    ]
    assert mutant.line(SCRIPT) == 6
    before, after = mutant.diff(SCRIPT)
    assert (before, after) == (f"-{SCRIPT.splitlines()[5]}", f"+{SCRIPT.splitlines()[5].replace('min', 'max')}")


@pytest.mark.parametrize("path", SOURCES)
def test_every_test_that_a_mutant_has_to_pass_exists(path: str) -> None:
    assert [name for stage in judge.suite(path) for name in stage if not (sample.ROOT / name).exists()] == []


def test_a_wrong_script_fails_in_one_of_its_rows_and_the_right_one_in_none(server: str) -> None:
    right = SOURCES["lua/recall.lua"]
    assert quick.noticed(server, "recall", right) == ""
    assert quick.noticed(server, "recall", right.replace("'known'", "'recalled'")) == "the row 'recall what is there'"
    assert quick.noticed(server, "recall", right) == ""
