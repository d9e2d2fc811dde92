"""`stockade stock`: load SKUs from a CSV file, show their counters."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from engine import stock_file
from engine.cli_service import complain, data_dir_option, engine_of, json_option, lever_engine_of, operator
from engine.cli_skus import SKU, SkuCommand, columns, padded
from engine.engine import Engine
from engine.errors import Closed, EngineError, NotFound, StoreUnavailable
from engine.stock_file import BadLine, BadLines, Row
from engine.values import Lever, Sku, SkuChange

PAGE = 200
"""Lines loaded in one round trip: few enough that buyers don't notice, many enough that the round trip doesn't count."""

SHOWN_PAGE = 1_000
"""SKUs read in one round trip."""

MAX_COMPLAINTS = 100
"""Lines of a file that are named one by one."""


@dataclass
class Loaded:
    """What became of the lines of a file so far."""

    new: int = 0
    changed: int = 0
    refused: list[tuple[Row, EngineError]] = field(default_factory=list)

    def count(self, row: Row, result: tuple[Sku, bool] | EngineError) -> None:
        if isinstance(result, EngineError):
            self.refused.append((row, result))
        elif result[1]:
            self.new += 1
        else:
            self.changed += 1


@click.group()
def stock() -> None:
    """Load and show stock."""


def _delimiter(context: click.Context, parameter: click.Parameter, text: str) -> str:
    character = {"tab": "\t", "\\t": "\t"}.get(text, text)
    usable = len(character) == 1 and (character == "\t" or character.isprintable())
    if not usable or character.isalnum() or character in '"_ -':
        raise click.BadParameter("must be one character that no value begins with, such as ';', or tab.")
    return character


@stock.command("load")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--delimiter", default=",", show_default=True, callback=_delimiter, help="Between columns; or tab.")
@click.option("--dry-run", is_flag=True, help="Check everything, say what would be, and change nothing.")
@json_option
@data_dir_option
def stock_load(file: Path, delimiter: str, dry_run: bool, as_json: bool, data_dir: Path) -> None:
    """Create SKUs or recount them from a CSV file: sku,on_hand[,name,limit_per_customer].

    on_hand is all units that are there, with those reserved and allocated. An empty name or limit_per_customer, like a
    column that isn't there, leaves what the SKU has; none clears it. If lines are wrong, all of them are named and nothing
    is changed. A load that broke off can be run again.
    """
    try:
        rows = stock_file.read(file, delimiter)
    except BadLines as error:
        if as_json:
            bad = [_bad(line.number, "", "validation_failed", line.problem) for line in error.lines]
            click.echo(_document(Loaded(), dry_run, bad))
        _refuse(file, error.lines, "nothing was changed")
    loaded = _load(lever_engine_of(data_dir), rows, dry_run)
    if as_json:
        refused = [_bad(row.number, row.sku, error.code, str(error)) for row, error in loaded.refused]
        click.echo(_document(loaded, dry_run, refused))
    else:
        counted = f"{loaded.new} SKUs new, {loaded.changed} changed, {len(loaded.refused)} refused"
        click.echo(f"{counted}; a dry run: nothing was changed" if dry_run else counted)
    if loaded.refused:
        lines = [BadLine(row.number, f"{row.sku}: {error}") for row, error in loaded.refused]
        _refuse(file, lines, "nothing was changed" if dry_run else "the other lines are loaded")


@stock.command("show", cls=SkuCommand)
@click.argument("skus", nargs=-1, type=SKU)
@json_option
@data_dir_option
def stock_show(skus: tuple[str, ...], as_json: bool, data_dir: Path) -> None:
    """Show the counters of the SKUs named, or of all."""
    engine = engine_of(data_dir)
    found = _named(engine, skus) if skus else _all(engine)
    if as_json:
        click.echo(json.dumps([_shown(sku) for sku in found]))
        return
    width = max([3, *(columns(sku.sku) for sku in found)])
    click.echo(f"{'SKU':{width}} {'on_hand':>11} {'available':>11} {'reserved':>11} {'allocated':>11}")
    for sku in found:
        counters = f"{sku.on_hand:>11} {sku.available:>11} {sku.reserved:>11} {sku.allocated:>11}"
        click.echo(f"{padded(sku.sku, width)} {counters}")


def _load(engine: Engine, rows: Sequence[Row], dry_run: bool) -> Loaded:
    """Configure the SKUs of all rows, page by page, with progress on a terminal.

    Raises:
        StoreUnavailable: the load broke off; the message says where.
    """
    loaded, origin = Loaded(), operator()
    lever, reason = (Lever.DRY_RUN, "stock load --dry-run") if dry_run else (Lever.NONE, "")
    bar = click.progressbar(length=len(rows), label="Loading", file=sys.stderr, hidden=not sys.stderr.isatty())
    at = 0
    try:
        with bar:
            for page in _pages(rows):
                changes = [SkuChange(row.sku, row.on_hand, row.attributes) for row in page]
                results = engine.stock.configure_all(changes, origin, reason, lever)
                for row, result in zip(page, results, strict=True):
                    if isinstance(result, Closed):
                        raise result
                    loaded.count(row, result)
                    at += 1
                bar.update(len(page))
    except KeyboardInterrupt as error:
        complain(_broken_off(rows, at, dry_run))
        raise click.Abort from error
    except Closed as error:
        gate = engine.gate()
        state = f"the gate is {'shut' if gate == 'open' else gate}; see stockade restore --dry-run"
        raise StoreUnavailable(f"{_broken_off(rows, at, dry_run)}: {state}") from error.__cause__
    except StoreUnavailable as error:
        raise StoreUnavailable(f"{_broken_off(rows, at, dry_run)}: {error}") from error.__cause__
    return loaded


def _broken_off(rows: Sequence[Row], done: int, dry_run: bool) -> str:
    row = rows[min(done, len(rows) - 1)]
    if dry_run:
        return f"The dry run broke off at line {row.number} ({row.sku}); nothing was changed"
    return f"The load broke off at line {row.number} ({row.sku}); the lines before it are loaded; load the file again"


def _pages(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    return (rows[at : at + PAGE] for at in range(0, len(rows), PAGE))


def _refuse(file: Path, lines: Sequence[BadLine], outcome: str) -> None:
    """Name the lines on stderr, and exit 1."""
    for line in lines[:MAX_COMPLAINTS]:
        complain(f"{file}: line {line.number}: {line.problem}")
    if len(lines) > 1:
        more = len(lines) - MAX_COMPLAINTS
        complain(f"{file}: {f'{more} more, ' if more > 0 else ''}{len(lines)} bad lines in all; {outcome}")
    sys.exit(1)


def _bad(number: int, sku: str, code: str, detail: str) -> dict[str, object]:
    return {"line": number, "sku": sku, "code": code, "detail": detail}


def _document(loaded: Loaded, dry_run: bool, refused: Sequence[dict[str, object]]) -> str:
    counts = {"new": loaded.new, "changed": loaded.changed, "refused": refused}
    return json.dumps(counts | ({"dry_run": True} if dry_run else {}))


def _named(engine: Engine, skus: Iterable[str]) -> list[Sku]:
    """The SKUs of these names, each as often as it is named. Raises: NotFound: with all the names that don't exist."""
    found, missing = [], []
    for name in skus:
        try:
            found.append(engine.stock.get(name))
        except NotFound:
            missing.append(name)
    if missing:
        raise NotFound(f"No SKU is called {', '.join(missing)}.")
    return found


def _all(engine: Engine) -> list[Sku]:
    found: list[Sku] = []
    while page := engine.stock.page(found[-1].sku if found else "", SHOWN_PAGE):
        found += page
    return found


def _shown(sku: Sku) -> dict[str, object]:
    return {name: value for name, value in dataclasses.asdict(sku).items() if name != "replayed"}
