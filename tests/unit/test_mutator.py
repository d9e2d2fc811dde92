"""The mutator of `make mutants`: what it makes of a source, and that all of it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from lupa.lua51 import LuaRuntime  # type: ignore[import-untyped]
from redis.exceptions import RedisError

from tests.mutation import judge, lua, python, quick, run, sample
from tests.mutation.judge import Place
from tests.mutation.mutant import Mutant
from tests.mutation.survivors import SURVIVORS
from tests.waiting import wait_until

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


def test_without_its_server_no_mutant_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtests.servers.START_SECONDS", 0.1)
    monkeypatch.setattr(run, "_place", Place(str(tmp_path), f"unix://{tmp_path}/none.sock"), raising=False)
    with pytest.raises(RedisError):
        run._judge("lua/recall.lua", SOURCES["lua/recall.lua"])


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("def test_it(): assert ord('a') == 98", "test_it.py::test_it"),
        ("import nothing_of_this_name", "import of test_it.py"),
        ("import os\ndef test_it(): os._exit(1)", "time ran out in test_it.py::test_it"),
        ("def test_it(): pass", ""),
    ],
    ids=["a test failed", "an import failed", "pytest-timeout ended it", "none failed"],
)
def test_a_mutant_is_killed_by_a_test(tmp_path: Path, test: str, expected: str) -> None:
    assert judged(tmp_path, test) == expected


@pytest.mark.parametrize(
    "test",
    [
        "",
        "import os, signal\ndef test_it(): os.kill(os.getpid(), signal.SIGKILL)",
        "def test_it(): raise KeyboardInterrupt",
        "import pytest\ndef test_it(): pytest.exit('the disk is full', 3)",
    ],
    ids=["there is no test", "it was killed", "it was interrupted", "pytest itself failed"],
)
def test_what_is_no_test_kills_no_mutant(tmp_path: Path, test: str) -> None:
    with pytest.raises(RuntimeError, match="pytest ended with"):
        judged(tmp_path, test)


def test_a_mutant_without_which_no_test_can_begin_is_killed(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("import nothing_of_this_name")
    assert judged(tmp_path, "def test_it(): pass") == "import of a conftest.py"


def judged(directory: Path, test: str) -> str:
    (directory / "test_it.py").write_text(test)
    (directory / "setup.cfg").write_text("[tool:pytest]\n")
    (directory / "mutated.py").write_text("right\n")
    (directory / "loadtests").mkdir()
    (directory / "loadtests" / "servers.py").touch()
    (directory / "tests").mkdir()
    (directory / "tests" / "servers.py").touch()
    verdict = judge.judge(Place(str(directory), ""), "mutated.py", "wrong\n", (("test_it.py",),))
    assert (directory / "mutated.py").read_text() == "right\n"
    return verdict.by


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        yield Path(directory)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_whoever_interrupts_it_leaves_nothing_behind(short_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-m", "tests.mutation.run", "--only", "carts", "--count", "1"]
    with (short_path / "output").open("w") as output:
        program = subprocess.Popen(
            command,
            cwd=sample.ROOT,
            env=os.environ | {"TMPDIR": str(short_path)},
            start_new_session=True,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: list(short_path.glob("stockade-mutants-*/*/output")), seconds=60.0)
        assert len(of_session(program.pid)) > 4, "itself, two workers, their children and servers"
        program.send_signal(how)
        assert program.wait(15.0) != 0
        wait_until(lambda: not of_session(program.pid))
    finally:
        for pid in of_session(program.pid):
            os.kill(pid, signal.SIGKILL)
        program.wait()
    assert [path.name for path in short_path.iterdir()] == ["output"]


def of_session(session: int) -> list[int]:
    """Processes that run in it; one that has ended and that nobody has asked about doesn't."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, (state, _, _, of, *_) = path.parent.name, path.read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of) == session and state != "Z":
            found.append(int(pid))
    return found
