"""`stockade repair`: put the ledger right, and go on without what is lost. The work is in `engine.repair` and `engine.adoption`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from engine.acknowledged import Acknowledgement
from engine.adoption import Adopted, Adoption
from engine.cli_levers import reason
from engine.cli_service import data_dir_option, engine_of, json_option, operator
from engine.errors import ConfigurationError
from engine.recovery import Recovery
from engine.repair import Loss, Repair, unsettled

MAX_NAMED = 100
NOTHING = "nothing of the ledger is damaged or lost; what Redis holds otherwise is named by stockade restore --dry-run"


@click.command("repair")
@click.option("--dry-run", is_flag=True, help="Say what is damaged and what would be lost, and change nothing.")
@click.option(
    "--accept",
    metavar="REASON",
    callback=reason,
    help="Go on without the events that nobody has any more, and why; it is kept in Postgres.",
)
@click.option(
    "--force",
    is_flag=True,
    help="With --accept, where Redis and the ledger contradict each other: give up what only Redis has, and make it anew.",
)
@json_option
@data_dir_option
def repair_command(dry_run: bool, accept: str | None, force: bool, as_json: bool, data_dir: Path) -> None:
    """Put the ledger in Postgres right, logged in there as the owner of its tables, because rows may have to be changed.

    Rows that are missing or changed come back from Redis's stream, where the hash chain proves them. What is left of events
    that are lost stays; with --accept the shop goes on without the rest, and what Redis holds is put on record. Redis itself
    is made right from the ledger by stockade restore. Exit code 1: something is lost and not accepted. See docs/RUNBOOK.md,
    "The record is damaged"; stockade verify proves that all is well afterwards.
    """
    if force and (dry_run or not accept):
        raise click.UsageError("--force goes with --accept, and can't be tried dry.")
    engine = engine_of(data_dir)
    recovery = Recovery(engine.database, engine.store, engine.scripts, engine.settings.retain_ms)
    repair = Repair(engine.database, engine.store, recovery)
    if force:
        # Redis may be all that still has rows which the chain proves.
        repair.mend(repair.look())
        repair.give_up_redis()
    found = repair.look()
    left = repair.mend(found, dry_run=dry_run)
    # What would come back has an end to which nobody can look before it is there.
    losses = repair.losses(left) if left or not (found and dry_run) else []
    again = unsettled(engine.database, engine.store.keys.partition)
    accepted, adopted = list[Loss](), None
    if accept and not dry_run and (losses or again or force):
        by = Acknowledgement(operator().actor, accept)
        while losses:
            repair.accept(losses, by)
            accepted += losses
            # Behind it may be something else that is lost.
            before, losses = losses, repair.losses(repair.mend(repair.look()))
            if losses == before:
                raise ConfigurationError(f"{losses[0]}, though that was accepted")
        repair.reopen()
        adopted = Adoption(engine.database, engine.store, engine.scripts, engine.settings.retain_ms).settle(by)
    outcome = _outcome(len(found), len(left), bool(losses or again), adopted, dry_run)
    if as_json:
        click.echo(json.dumps(_document(len(found), len(left), accepted or losses, adopted, outcome)))
    else:
        for each in found if dry_run else ():
            click.echo(each.why)
        for loss in accepted:
            click.echo(f"accepted: {loss}")
        for loss in losses:
            click.echo(str(loss))
        for gap in again if adopted is None else ():
            click.echo(f"the gap after {gap.after_epoch}-{gap.after_seq} was accepted and isn't settled")
        click.echo(outcome)
        for line in _names(adopted) if adopted else ():
            click.echo(line)
    if (losses or again) and adopted is None and not dry_run:
        raise ConfigurationError("Run it again with --accept REASON to go on without what is lost")


def _names(adopted: Adopted) -> list[str]:
    """What was put on record, by name: whoever it concerns may have to be told."""
    named = [f"SKU {sku}" for sku in sorted(adopted.skus)]
    named += [f"reservation {name}" for name in sorted(adopted.reservations)]
    more = len(named) - MAX_NAMED
    return named[:MAX_NAMED] + ([f"and {more} more: see --json, or stockade explain"] if more > 0 else [])


def _outcome(found: int, left: int, lost: bool, adopted: Adopted | None, dry_run: bool) -> str:
    if adopted is not None:
        words = f"{len(adopted.skus)} SKUs, {len(adopted.reservations)} reservations and {len(adopted.buyers)} customers' counts"
        return (
            f"the ledger goes on; put on record as Redis holds them: {words}{', the levers' if adopted.levers else ''}"
        )
    if not (found or lost):
        return NOTHING
    if not found:
        return "nothing could be mended"
    if dry_run:
        return f"{found - left} of {found} damaged places would be mended, out of what Redis's stream has"
    return f"{found - left} of {found} damaged places were mended"


def _document(found: int, left: int, losses: list[Loss], adopted: Adopted | None, outcome: str) -> dict[str, object]:
    return {
        "damaged": found,
        "mended": found - left,
        "losses": [
            {
                "after": loss.after.entry_id,
                "upto": loss.upto.entry_id,
                "lost": loss.lost,
                "left": loss.left,
                "why": loss.why,
            }
            for loss in losses
        ],
        "adopted": {
            "skus": sorted(adopted.skus),
            "reservations": sorted(adopted.reservations),
            "buyers": len(adopted.buyers),
            "levers": adopted.levers,
        }
        if adopted is not None
        else None,
        "outcome": outcome,
    }
