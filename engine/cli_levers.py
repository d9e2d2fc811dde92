"""The levers of the command `stockade`: what on-call does to a shop that sells. The work is in `engine.levers`."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from msgspec import to_builtins

from engine.cli_service import data_dir_option, json_option, lever_engine_of, operator
from engine.cli_skus import SKU, SkuCommand
from engine.engine import Engine
from engine.errors import Closed, ConfigurationError
from engine.ids import random_word
from engine.levers import Freed, Outcome, Pull
from engine.limits import MAX_ON_HAND
from engine.values import Line, Sku, listed

MAX_WORDS = 255

BECAME = {
    Outcome.RELEASED: ("released", "would release"),
    Outcome.EXPIRED: ("ended, because its time had run out,", "would end, because its time has run out,"),
    Outcome.ENDED: ("left, because it was over before,", "would leave, because it is over,"),
    Outcome.PAID: ("left, because it is paid for,", "would leave, because it is paid for,"),
    Outcome.INCONSISTENT: ("left, because counters don't agree with it,", "would leave, because counters don't agree,"),
}
"""What is said of a reservation: done, and in a dry run."""

KEPT = "live holds can still be paid for"


def reason(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """Why somebody does something: a line that is kept."""
    if text is None:
        return None
    if not 1 <= len(text.strip()) <= MAX_WORDS or not text.isprintable():
        raise click.BadParameter(f"must be 1 to {MAX_WORDS} characters in one line.")
    return text.strip()


def lever_options(command: Callable[..., None]) -> Callable[..., None]:
    """What every lever takes."""
    options = (
        click.option("--reason", required=True, callback=reason, help="Why; it is kept in the ledger."),
        click.option("--dry-run", is_flag=True, help="Check everything, say what would be, and change nothing."),
        json_option,
        data_dir_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


class Session:
    """One lever, pulled: its engine, the one request id of its events, and how what became of it is printed."""

    def __init__(self, engine: Engine, pull: Pull, as_json: bool) -> None:
        self.engine = engine
        self.pull = pull
        self._as_json = as_json

    def say(self, line: str) -> None:
        if not self._as_json:
            click.echo(line if self.pull.dry_run else f"{line}, request {self.pull.origin.request_id}")

    def verb(self, done: str, would: str) -> str:
        return would if self.pull.dry_run else done

    def finish(self, **found: Any) -> None:
        """Print the document, where one is wanted. A dry run leaves no event, so it has no request id."""
        if self._as_json:
            request_id = None if self.pull.dry_run else self.pull.origin.request_id
            head = {"request_id": request_id, "dry_run": self.pull.dry_run, "reason": self.pull.reason}
            click.echo(json.dumps(head | found))


@contextmanager
def session(data_dir: Path, reason: str, dry_run: bool, as_json: bool) -> Iterator[Session]:
    engine = lever_engine_of(data_dir)
    try:
        yield Session(engine, Pull(operator(random_word()), reason, dry_run), as_json)
    except Closed as error:
        gate = engine.gate()
        raise Closed(f"The gate is {'shut' if gate == 'open' else gate}; see stockade restore --dry-run") from error


@click.command("pause", cls=SkuCommand)
@click.argument("skus", nargs=-1, type=SKU)
@lever_options
def pause_command(skus: tuple[str, ...], reason: str, dry_run: bool, as_json: bool, data_dir: Path) -> None:
    """Stop the sale of SKUs, or of everything if none is named. Live holds can still be paid for."""
    with session(data_dir, reason, dry_run, as_json) as pulled:
        _pause(pulled, skus, True)


@click.command("resume", cls=SkuCommand)
@click.argument("skus", nargs=-1, type=SKU)
@lever_options
def resume_command(skus: tuple[str, ...], reason: str, dry_run: bool, as_json: bool, data_dir: Path) -> None:
    """Let the sale of SKUs go on, or lift the global stop if none is named."""
    with session(data_dir, reason, dry_run, as_json) as pulled:
        _pause(pulled, skus, False)


def _pause(pulled: Session, skus: tuple[str, ...], paused: bool) -> None:
    verb = pulled.verb("paused", "would pause") if paused else pulled.verb("resumed", "would resume")
    already = "paused already" if paused else "not paused"
    pull, kept = pulled.pull, f"; {KEPT}" if paused else ""
    if skus:
        found = []
        if not paused and pulled.engine.stock.selling().paused:
            kept = "; all selling is still paused"
        for sku, changed in pulled.engine.levers.pause(skus, paused, pull):
            what = f"{verb} {sku.sku}" if changed else f"{sku.sku} was {already}"
            pulled.say(f"{what}: available {sku.available}, reserved {sku.reserved}{kept}")
            found.append(_shown(sku) | {"changed": changed})
        pulled.finish(skus=found)
        return
    before = pulled.engine.stock.selling()
    pulled.engine.stock.set_selling(paused, pull.reason, pull.origin, pull.lever)
    changed, live = before.paused != paused, pulled.engine.store.live()
    what = f"{verb} all selling" if changed else f"selling was {already}"
    still_stopped = "" if paused else "; SKUs that are paused by themselves stay so"
    pulled.say(f"{what}: {live} live holds{kept}{still_stopped}")
    pulled.finish(paused=paused, changed=changed, live_reservations=live)


@click.command("release")
@click.argument("reservations", nargs=-1)
@click.option("--user", default="", help="Every live hold of this user.")
@click.option("--sku", type=SKU, help="Every live hold that has this SKU; with --user, of that user.")
@lever_options
def release_command(
    reservations: tuple[str, ...], user: str, sku: str | None, reason: str, dry_run: bool, as_json: bool, data_dir: Path
) -> None:
    """End live holds by force, by id or all of a user and/or of a SKU. What is paid for is named and left."""
    if bool(reservations) == bool(user or sku):
        raise click.UsageError("Name reservations, or else give --user, --sku or both.")
    with session(data_dir, reason, dry_run, as_json) as pulled:
        levers, pull = pulled.engine.levers, pulled.pull
        found: list[dict[str, Any]] = []
        outcomes: Counter[Outcome] = Counter()
        back: Counter[str] = Counter()
        for freed in levers.release(reservations, pull) if reservations else levers.release_all(user, sku or "", pull):
            pulled.say(_freed(freed, dry_run))
            outcomes[freed.outcome] += 1
            if freed.outcome in (Outcome.RELEASED, Outcome.EXPIRED):
                back.update({line.sku: line.quantity for line in freed.lines})
            if as_json:
                found.append(to_builtins(freed))
        if outcomes.total() > 1:
            units = listed(Line(name, count) for name, count in sorted(back.items())) or "nothing"
            gone = outcomes[Outcome.RELEASED] + outcomes[Outcome.EXPIRED]
            verb = pulled.verb("ended", "would end")
            pulled.say(f"{verb} {gone} of {outcomes.total()} reservations: {units} back in available")
        pulled.finish(reservations=found)
        if outcomes[Outcome.INCONSISTENT] or (reservations and outcomes[Outcome.PAID]):
            left = outcomes[Outcome.INCONSISTENT] + outcomes[Outcome.PAID]
            advice = "run stockade verify" if outcomes[Outcome.INCONSISTENT] else "a paid one is an order: cancel that"
            raise ConfigurationError(f"{left} of {outcomes.total()} reservations left as they are; {advice}")


def _freed(freed: Freed, dry_run: bool) -> str:
    became = BECAME[freed.outcome][dry_run]
    return f"{became} {freed.id} of {freed.user}: {listed(freed.lines)}, {freed.age_seconds} s old"


@click.command("recount", cls=SkuCommand)
@click.argument("sku", type=SKU)
@click.argument("on_hand", type=click.IntRange(0, MAX_ON_HAND))
@lever_options
def recount_command(sku: str, on_hand: int, reason: str, dry_run: bool, as_json: bool, data_dir: Path) -> None:
    """Say how many units of a SKU were counted; what isn't claimed of them becomes available."""
    with session(data_dir, reason, dry_run, as_json) as pulled:
        before, after = pulled.engine.levers.recount(sku, on_hand, pulled.pull)
        verb = pulled.verb("recounted", "would recount")
        counters = f"available {after.available}, reserved {after.reserved}, allocated {after.allocated}"
        pulled.say(f"{verb} {sku}: on_hand {before.on_hand} becomes {after.on_hand}; {counters}")
        pulled.finish(before=_shown(before), after=_shown(after))


@click.command("default-hold")
@click.argument("seconds", type=int, required=False)
@click.option("--clear", is_flag=True, help="Let STOCKADE_DEFAULT_HOLD_SECONDS of each process count again.")
@lever_options
def default_hold_command(
    seconds: int | None, clear: bool, reason: str, dry_run: bool, as_json: bool, data_dir: Path
) -> None:
    """Set for how long is held for those who ask for no time, 1 to 900 s: at once, in every process."""
    if clear == (seconds is not None):
        raise click.UsageError("Give SECONDS, or else --clear.")
    with session(data_dir, reason, dry_run, as_json) as pulled:
        pull, before_ms = pulled.pull, pulled.engine.stock.default_hold_ms()
        pulled.engine.stock.set_default_hold(seconds, pull.reason, pull.origin, pull.lever)
        before = before_ms // 1000 if before_ms else None
        verb = pulled.verb("cleared", "would clear") if clear else pulled.verb("set", "would set")
        to = "; STOCKADE_DEFAULT_HOLD_SECONDS counts again" if clear else f" to {seconds} s"
        was = f"it was {before} s" if before else "none was set"
        pulled.say(f"{verb} the default hold{to} ({was}); live holds keep their time")
        pulled.finish(seconds=seconds, before_seconds=before)


def _shown(sku: Sku) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(sku).items() if name != "replayed"}


COMMANDS = (pause_command, resume_command, release_command, recount_command, default_hold_command)
