"""`stockade stock` and SKUs on the command line: names of every kind, files with many bad lines, progress, loads that break off."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engine import cli, cli_stock
from engine.cli_service import engine_of
from engine.cli_skus import columns
from engine.engine import Engine
from engine.errors import Closed, EngineError, StoreUnavailable
from engine.stock import Stock
from engine.values import Line, Origin, Sku, SkuChange
from tests.command.running import Command, one_line
from tests.command.service import ROOT, Service, environment, fails_in_one_line, stockade
from tests.unit.test_sku_names import SKUS

DASHED = ["-5XL", "-d", "-", "-5 XL/r=t", "-é"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "stock.csv"


@pytest.fixture(scope="module")
def engine(service: Service) -> Engine:
    return engine_of(service.data_dir, certified=True)


def written(file: Path, skus: Sequence[str], on_hand: int = 5) -> Path:
    lines = ['"{}",{}\n'.format(sku.replace('"', '""'), on_hand) for sku in skus]
    file.write_text("sku,on_hand\n" + "".join(lines))
    return file


def after_dashes(sku: str) -> list[str]:
    return ["--", sku] if sku.startswith("--") else [sku]


@pytest.mark.parametrize("sku", [*SKUS, *DASHED, "--json", "--5XL"])
def test_every_kind_of_sku_is_loaded_shown_pulled_and_explained(
    service: Service, run: Command, file: Path, engine: Engine, sku: str
) -> None:
    where, why = ("--data-dir", service.data_dir), ("--reason", "a drill")
    named = after_dashes(sku)
    assert run("stock", "load", written(file, [sku]), *where).code == 0
    [shown] = json.loads(run("stock", "show", "--json", *where, *named).out)
    assert (shown["sku"], shown["available"]) == (sku, 5)
    assert sku in run("stock", "show", *where, *named).out
    assert run("pause", *where, *why, *named).out.startswith(f"paused {sku}: available 5")
    assert run("resume", *where, *why, *named).out.startswith(f"resumed {sku}: available 5")
    recounted = run("recount", *where, *why, *named, 4)
    assert recounted.out.startswith(f"recounted {sku}: on_hand 5 becomes 4"), recounted
    held = engine.reservations.reserve(Origin("ann", user="ann"), [Line(sku, 2)], None)
    assert run("release", "--sku", sku, *where, *why).out.startswith(f"released {held.id} of ann: {sku}=2, ")
    story = run("explain", *where, *named).out.splitlines()
    assert any(f"reserved {sku}=2 for ann" in line for line in story)
    assert any(f"on_hand changed by {sku}=-1 (a drill)" in line for line in story)


@pytest.mark.parametrize(
    ("before", "after"),
    [(["-5XL", "--json"], []), (["--json", "-5XL"], []), (["--json"], ["--", "-5XL"]), (["--json", "--"], ["-5XL"])],
)
def test_options_work_before_and_after_a_sku_that_looks_like_one(
    service: Service, run: Command, file: Path, before: list[str], after: list[str]
) -> None:
    where = ("--data-dir", service.data_dir) if "--" not in before else ()
    first = () if where else ("--data-dir", service.data_dir)
    assert run("stock", "load", written(file, ["-5XL"], 7), "--data-dir", service.data_dir).code == 0
    [shown] = json.loads(run("stock", "show", *first, *before, *where, *after).out)
    assert (shown["sku"], shown["on_hand"]) == ("-5XL", 7)


def test_a_sku_is_taken_in_nfc(service: Service, run: Command, file: Path) -> None:
    where = ("--data-dir", service.data_dir)
    assert run("stock", "load", written(file, ["nfc-gro\u0308\u00dfe"]), *where).code == 0
    for spelling in ("nfc-gro\u0308\u00dfe", "nfc-gr\u00f6\u00dfe"):
        [shown] = json.loads(run("stock", "show", "--json", spelling, *where).out)
        assert shown["sku"] == "nfc-gr\u00f6\u00dfe"


WITH_SKUS = [
    ["stock", "show"],
    ["pause", "--reason", "x"],
    ["resume", "--reason", "x"],
    ["recount", "--reason", "x"],
    ["explain"],
]


@pytest.mark.parametrize("words", WITH_SKUS, ids=" ".join)
def test_a_misspelt_option_is_named_and_nothing_is_changed(service: Service, run: Command, words: list[str]) -> None:
    where = ("--data-dir", service.data_dir)
    number = ["5"] if "recount" in words else []
    line = one_line(run(*words, "--jsno", *where, "tee", *number), 2)
    assert "No such option '--jsno'. Did you mean '--json'?" in line
    assert "A SKU of that name goes after --: stockade" in line
    line = one_line(run(*words, *where, "-json", *number))
    assert "-json; options of this command: " in line
    assert "--json" in line.partition("options of this command")[2]


@pytest.mark.parametrize("words", WITH_SKUS, ids=" ".join)
@pytest.mark.parametrize("sku", ["", " a", "a  b", "a\tb", ".", "x" * 129, "a\u200b"])
def test_what_is_no_sku_is_refused_before_anything_is_asked(run: Command, words: list[str], sku: str) -> None:
    number = ["5"] if "recount" in words else []
    assert f"{sku!r} is no SKU. A SKU is 1 to 128" in one_line(run(*words, sku, *number), 2)
    assert f"{sku!r} is no SKU. A SKU is 1 to 128" in one_line(run("release", "--reason", "x", "--sku", sku), 2)


def test_arguments_that_are_no_utf_8_are_one_line(service: Service) -> None:
    for words in (["stock", "show"], ["explain"], ["pause", "--reason", "x"]):
        command = [sys.executable, "-m", "engine.cli", *words, "--data-dir", str(service.data_dir), b"caf\xe9"]
        ran = subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, text=True, check=False)  # type: ignore[list-item]
        assert "isn't text in UTF-8" in fails_in_one_line(ran, 2)


@pytest.mark.parametrize("words", WITH_SKUS, ids=" ".join)
def test_help_says_how_a_sku_that_looks_like_an_option_is_written(words: list[str]) -> None:
    result = CliRunner().invoke(cli.cli, [word for word in words if word not in ("--reason", "x")] + ["--help"])
    assert "(-5XL)" in result.output
    assert " --, " in " ".join(result.output.split())


def test_the_table_is_aligned_for_wide_characters_and_combining_marks(
    service: Service, run: Command, file: Path
) -> None:
    where = ("--data-dir", service.data_dir)
    skus = ["wide-日本語", "wide-ascii-name", "wide-👟", "wide-x\u0323\u0307"]
    assert run("stock", "load", written(file, skus), *where).code == 0
    lines = run("stock", "show", *skus, *where).out.splitlines()
    assert {columns(line) for line in lines} == {columns(lines[0])}


def test_every_bad_line_is_named_once_and_nothing_is_changed(service: Service, run: Command, file: Path) -> None:
    file.write_bytes(b'sku,on_hand\nmany-1,5\nmany-2,x\nmany-3,\xff\n"many-4,5\nmany-5,5,5\nmany-1,6\n')
    where = ("--data-dir", service.data_dir)
    failed = run("stock", "load", file, *where)
    assert (failed.code, failed.out) == (1, "")
    lines = failed.err.splitlines()
    assert [line.partition(": line ")[2].partition(":")[0] for line in lines[:-1]] == ["3", "4", "5", "6", "7"]
    assert all(line.startswith(f"stockade: {file}: ") for line in lines)
    assert lines[-1].endswith("5 bad lines in all; nothing was changed")
    assert "No SKU is called many-1" in one_line(run("stock", "show", "many-1", *where))
    document = json.loads(run("stock", "load", file, "--json", *where).out)
    assert [refused["line"] for refused in document["refused"]] == [3, 4, 5, 6, 7]
    assert (document["new"], document["changed"]) == (0, 0)
    assert {refused["code"] for refused in document["refused"]} == {"validation_failed"}


def test_of_many_thousands_of_bad_lines_the_first_are_named_and_the_rest_counted(run: Command, file: Path) -> None:
    file.write_text("sku,on_hand\n" + "".join(f"s-{at},x\n" for at in range(30_000)))
    lines = run("stock", "load", file).err.splitlines()
    assert len(lines) == cli_stock.MAX_COMPLAINTS + 1
    assert lines[-1] == f"stockade: {file}: 29900 more, 30000 bad lines in all; nothing was changed"


def test_all_refused_lines_are_named_and_the_others_are_loaded(
    service: Service, run: Command, file: Path, engine: Engine
) -> None:
    where = ("--data-dir", service.data_dir)
    skus = [f"below-{at}" for at in range(3)]
    assert run("stock", "load", written(file, skus), *where).code == 0
    for sku in skus[:2]:
        engine.reservations.reserve(Origin("ann", user="ann"), [Line(sku, 3)], None)
    dry = run("stock", "load", written(file, skus, 2), "--dry-run", *where)
    assert (dry.code, dry.out) == (1, "0 SKUs new, 1 changed, 2 refused; a dry run: nothing was changed\n")
    assert dry.err.splitlines()[-1].endswith("2 bad lines in all; nothing was changed")
    assert engine.stock.get(skus[2]).on_hand == 5
    failed = run("stock", "load", file, *where)
    assert (failed.code, failed.out) == (1, "0 SKUs new, 1 changed, 2 refused\n")
    first, second, last = failed.err.splitlines()
    assert f": line 2: {skus[0]}: " in first
    assert f": line 3: {skus[1]}: " in second
    assert last.endswith("2 bad lines in all; the other lines are loaded")
    assert engine.stock.get(skus[2]).on_hand == 2


def test_a_dry_run_changes_nothing_and_says_what_would_be(
    service: Service, run: Command, file: Path, engine: Engine
) -> None:
    where = ("--data-dir", service.data_dir)
    before = engine.store.meta()["seq"]
    dry = run("stock", "load", written(file, ["dry-1", "dry-2"]), "--dry-run", *where)
    assert (dry.code, dry.out, dry.err) == (0, "2 SKUs new, 0 changed, 0 refused; a dry run: nothing was changed\n", "")
    document = json.loads(run("stock", "load", file, "--dry-run", "--json", *where).out)
    assert document == {"new": 2, "changed": 0, "refused": [], "dry_run": True}
    assert engine.store.meta()["seq"] == before
    assert "No SKU is called dry-1, dry-2." in one_line(run("stock", "show", "dry-1", "dry-2", *where))


@pytest.mark.parametrize(("delimiter", "given"), [(";", ";"), ("\t", "tab"), ("\t", "\\t"), ("\t", "\t"), ("|", "|")])
def test_a_file_with_another_delimiter_is_loaded(
    service: Service, run: Command, file: Path, engine: Engine, delimiter: str, given: str
) -> None:
    file.write_text(f"sku,on_hand,name\ndelimited-{ord(given[-1])},5,A b\n".replace(",", delimiter))
    assert run("stock", "load", file, "--delimiter", given, "--data-dir", service.data_dir).code == 0
    assert engine.stock.get(f"delimited-{ord(given[-1])}").name == "A b"


@pytest.mark.parametrize("delimiter", ["", "ab", '"', "a", "1", " ", "\n", "_", "-", "\x00"])
def test_what_cannot_separate_columns_is_refused(run: Command, file: Path, delimiter: str) -> None:
    assert "--delimiter" in one_line(run("stock", "load", file, f"--delimiter={delimiter}"), 2)


def test_more_than_a_page_is_loaded_and_a_second_load_changes_nothing(
    service: Service, run: Command, file: Path, engine: Engine
) -> None:
    where = ("--data-dir", service.data_dir)
    count = 2 * cli_stock.PAGE + 1
    written(file, [f"pages-{at}" for at in range(count)])
    loaded = run("stock", "load", file, *where)
    assert (loaded.code, loaded.out, loaded.err) == (0, f"{count} SKUs new, 0 changed, 0 refused\n", "")
    before = engine.store.meta()["seq"]
    assert run("stock", "load", file, *where).out == f"0 SKUs new, {count} changed, 0 refused\n"
    assert engine.store.meta()["seq"] == before


Results = list[tuple[Sku, bool] | EngineError]


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        (StoreUnavailable("Redis can't answer"), "Redis can't answer"),
        (Closed(), "the gate is shut; see stockade restore --dry-run"),
        ([Closed()] * cli_stock.PAGE, "the gate is shut; see stockade restore --dry-run"),
        (KeyboardInterrupt(), ""),
    ],
    ids=["no Redis", "a shut gate", "a shut gate for each", "Ctrl-C"],
)
def test_a_load_that_broke_off_says_where_and_can_be_run_again(
    service: Service, run: Command, file: Path, monkeypatch: pytest.MonkeyPatch, breaks: Any, says: str
) -> None:
    where, name = ("--data-dir", service.data_dir), f"broken-{type(breaks).__name__}"
    written(file, [f"{name}-{at}" for at in range(2 * cli_stock.PAGE)])
    whole, calls = Stock.configure_all, []

    def broken(stock: Stock, changes: Sequence[SkuChange], *arguments: Any) -> Results:
        calls.append(changes)
        if len(calls) == 1:
            return whole(stock, changes, *arguments)
        if isinstance(breaks, list):
            return list(breaks)
        raise breaks

    with monkeypatch.context() as patched:
        patched.setattr(Stock, "configure_all", broken)
        line = one_line(run("stock", "load", file, *where), 130 if isinstance(breaks, KeyboardInterrupt) else 1)
    assert f"The load broke off at line {cli_stock.PAGE + 2} ({name}-{cli_stock.PAGE}); the lines before it" in line
    assert says in line
    again = run("stock", "load", file, *where)
    assert (again.code, again.out) == (0, f"{cli_stock.PAGE} SKUs new, {cli_stock.PAGE} changed, 0 refused\n")


def test_a_load_shows_its_progress_on_a_terminal_only(service: Service, file: Path) -> None:
    written(file, [f"progress-{at}" for at in range(3 * cli_stock.PAGE)])
    words = ("stock", "load", file, "--data-dir", service.data_dir)
    assert stockade(*words).stderr == ""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "engine.cli", *map(str, words)]
    try:
        ran = subprocess.run(
            command, env=environment({"TERM": "xterm"}), cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs, check=False
        )
        os.close(theirs)
        shown = b"".join(_read(ours))
    finally:
        os.close(ours)
    assert ran.stdout == b"0 SKUs new, 600 changed, 0 refused\n"
    assert b"Loading" in shown
    assert b"100%" in shown


def _read(descriptor: int) -> Iterator[bytes]:
    # Linux says EIO at the end of what a terminal got.
    with suppress(OSError):
        while chunk := os.read(descriptor, 65_536):
            yield chunk
