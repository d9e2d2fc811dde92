"""The levers as on-call pulls them: one line of what was done or would be, one request id, and nothing done by half."""

from __future__ import annotations

import getpass
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from engine.cli_service import engine_of
from engine.store import client
from engine.values import Line, Operation, Origin
from tests.command.running import Command, Run, one_line
from tests.command.service import Service
from tests.conftest import opened, settings
from tests.integration.shops import one_kind

OPS = Origin("ops")
REQUEST = r"request [0-9a-f]{16}"


class Desk:
    """Somebody on call at a terminal, and the shop that he looks after."""

    def __init__(self, service: Service, run: Command) -> None:
        self._service = service
        self._run = run
        self.ops = service.token("olga", "ops")

    def pull(self, *arguments: object, reason: str = "a drill") -> Run:
        return self._run(*arguments, "--reason", reason, "--data-dir", self._service.data_dir)

    def line(self, *arguments: object) -> str:
        """The line without its request id. A dry run has none."""
        pulled = self.pull(*arguments)
        assert (pulled.code, pulled.err, pulled.out.count("\n")) == (0, "", 1), pulled
        assert bool(re.search(f", {REQUEST}\n$", pulled.out)) == ("--dry-run" not in arguments)
        return re.sub(f"(, {REQUEST})?\n$", "", pulled.out)

    def document(self, *arguments: object) -> dict[str, Any]:
        pulled = self.pull(*arguments, "--json")
        assert (pulled.code, pulled.err) == (0, ""), pulled
        found: dict[str, Any] = json.loads(pulled.out)
        assert (found["reason"], found["dry_run"]) == ("a drill", "--dry-run" in arguments)
        assert (found["request_id"] is None) == found["dry_run"]
        return found

    def refused(self, words: str, *arguments: object) -> None:
        """With and without --dry-run: one line on stderr, and no event."""
        for more in ((), ("--dry-run",)):
            before = self.seq()
            assert words in one_line(self.pull(*arguments, *more))
            assert self.seq() == before

    def rehearsed(self, *arguments: object) -> str:
        """The line of a dry run, which has left no event."""
        before = self.seq()
        line = self.line(*arguments, "--dry-run")
        assert self.seq() == before
        return line

    def seq(self) -> int:
        return int(engine_of(self._service.data_dir).store.meta()["seq"])

    def story(self, name: str) -> list[str]:
        return self._run("explain", name, "--data-dir", self._service.data_dir).out.splitlines()

    def stock(self, sku: str, on_hand: int) -> None:
        assert self._service.call("PUT", f"/v1/skus/{sku}", {"on_hand": on_hand}, token=self.ops).status == 201

    def reserve(self, user: str, *skus: str, status: int = 201) -> dict[str, Any]:
        body = {"lines": [{"sku": sku, "quantity": 1} for sku in skus]}
        made = self._service.call("POST", "/v1/reservations", body, token=self._service.token(user, "customer"))
        assert made.status == status, made
        found: dict[str, Any] = made.document
        return found

    def pay(self, reservation_id: str) -> None:
        path = f"/v1/reservations/{reservation_id}/commit"
        paid = self._service.call(
            "POST", path, {"payment_id": f"p-{reservation_id}"}, token=self._service.token("till", "payments")
        )
        assert paid.status == 200, paid


@pytest.fixture
def desk(service: Service, run: Command) -> Desk:
    return Desk(service, run)


def test_skus_are_paused_and_resumed(desk: Desk) -> None:
    desk.stock("pause-1", 5)
    desk.stock("pause-2", 9)
    held = desk.reserve("ann", "pause-1")["id"]
    said = "available 4, reserved 1; live holds can still be paid for"
    assert desk.rehearsed("pause", "pause-1") == f"would pause pause-1: {said}"
    desk.reserve("bob", "pause-2")
    assert desk.line("pause", "pause-1") == f"paused pause-1: {said}"
    refused = desk.reserve("bob", "pause-1", status=409)
    assert [line["verdict"] for line in refused["lines"]] == ["paused"]
    desk.pay(held)
    assert desk.line("pause", "pause-1").startswith("pause-1 was paused already: available 4, reserved 0")
    both = desk.document("pause", "pause-1", "pause-2", "pause-1")
    assert [(sku["sku"], sku["paused"], sku["changed"]) for sku in both["skus"]] == [
        ("pause-1", True, False),
        ("pause-2", True, True),
    ]
    [told] = [line for line in desk.story("pause-2") if both["request_id"] in line]
    assert "changed: paused=1 (a drill)" in told
    assert f"by cli:{getpass.getuser()}, request {both['request_id']}" in told
    desk.refused("No such SKU: pause-9, pause-8", "resume", "pause-1", "pause-9", "pause-8")
    desk.reserve("bob", "pause-1", status=409)
    resumed = desk.pull("resume", "pause-1", "pause-2")
    first, second = resumed.out.splitlines()
    assert first.startswith("resumed pause-1: available 4, reserved 0, request ")
    assert first.rpartition(" ")[2] == second.rpartition(" ")[2]
    assert desk.line("resume", "pause-1").startswith("pause-1 was not paused: ")
    desk.reserve("bob", "pause-1")


def test_all_selling_is_paused_and_resumed(desk: Desk) -> None:
    desk.stock("stop-1", 5)
    desk.reserve("ann", "stop-1")
    live = r"[1-9]\d* live holds"
    assert re.fullmatch(f"would pause all selling: {live}; live holds can still be paid for", desk.rehearsed("pause"))
    desk.reserve("ann", "stop-1")
    try:
        assert re.fullmatch(f"paused all selling: {live}; live holds can still be paid for", desk.line("pause"))
        desk.reserve("ann", "stop-1", status=409)
        assert desk.line("pause").startswith("selling was paused already: ")
        assert desk.line("resume", "stop-1") == (
            "stop-1 was not paused: available 3, reserved 2; all selling is still paused"
        )
        assert desk.rehearsed("resume").startswith("would resume all selling: ")
        desk.reserve("ann", "stop-1", status=409)
    finally:
        resumed = desk.document("resume")
    assert (resumed["paused"], resumed["changed"]) == (False, True)
    assert resumed["live_reservations"] >= 2
    desk.reserve("ann", "stop-1")
    assert desk.line("resume").startswith("selling was not paused: ")


def test_a_reservation_is_released_by_its_id(desk: Desk) -> None:
    desk.stock("free-1", 5)
    held, paid = (desk.reserve("ann", "free-1")["id"] for _ in range(2))
    desk.pay(paid)
    said = rf"{held} of ann: free-1=1, \d+ s old"
    assert re.fullmatch(f"would release {said}", desk.rehearsed("release", held))
    assert re.fullmatch(f"released {said}", desk.line("release", held))
    assert re.fullmatch(f"left, because it was over before, {said}", desk.line("release", held))
    assert any(f"{held} released free-1=1 (a drill)" in line for line in desk.story(held))
    before = desk.seq()
    left = desk.pull("release", paid)
    assert (left.code, left.out.count("\n"), desk.seq()) == (1, 1, before)
    assert left.out.startswith(f"left, because it is paid for, {paid} of ann")
    assert left.err == "stockade: 1 of 1 reservations left as they are; a paid one is an order: cancel that\n"
    other = desk.reserve("ann", "free-1")["id"]
    desk.refused("No such reservation: r9", "release", other, "r9")


def test_all_of_a_user_or_of_a_sku_is_released_and_each_is_named(desk: Desk) -> None:
    desk.stock("free-2", 9)
    desk.stock("free-3", 9)
    mine = [desk.reserve("mallory", *skus)["id"] for skus in (["free-2"], ["free-3"], ["free-2", "free-3"])]
    theirs = [desk.reserve("nina", sku)["id"] for sku in ("free-2", "free-3")]
    paid = desk.reserve("mallory", "free-2")["id"]
    desk.pay(paid)
    would = desk.document("release", "--user", "mallory", "--dry-run")
    assert {(one["id"], one["outcome"]) for one in would["reservations"]} == {(name, "released") for name in mine}
    both = desk.document("release", "--user", "mallory", "--sku", "free-3", "--dry-run")
    assert {one["id"] for one in both["reservations"]} == set(mine[1:])
    freed = desk.pull("release", "--user", "mallory")
    *lines, last = freed.out.splitlines()
    assert {line.split()[1] for line in lines} == set(mine)
    assert re.fullmatch(f"ended 3 of 3 reservations: free-2=2, free-3=2 back in available, {REQUEST}", last)
    request = last.rpartition(" ")[2]
    assert {line.rpartition(" ")[2] for line in lines} == {request}
    assert sum(request in line for line in desk.story("free-2")) == 2
    desk.refused("No live reservation of user mallory", "release", "--user", "mallory")
    desk.refused("No live reservation of user mallory has free-2", "release", "--user", "mallory", "--sku", "free-2")
    desk.refused("No such SKU: free-9", "release", "--sku", "free-9")
    [freed_one] = desk.document("release", "--sku", "free-2")["reservations"]
    assert (freed_one["id"], freed_one["user"], freed_one["lines"]) == (
        theirs[0],
        "nina",
        [{"sku": "free-2", "quantity": 1}],
    )


def test_a_sku_is_recounted_but_not_below_its_claims_and_never_made(desk: Desk) -> None:
    desk.stock("count-1", 10)
    desk.reserve("ann", "count-1")
    said = "recount count-1: on_hand 10 becomes 7; available 6, reserved 1, allocated 0"
    assert desk.rehearsed("recount", "count-1", 7) == f"would {said}"
    assert desk.line("recount", "count-1", 7) == said.replace("recount", "recounted", 1)
    assert "recounted; on_hand changed by count-1=-3 (a drill)" in desk.story("count-1")[-1]
    found = desk.document("recount", "count-1", 8)
    assert (found["before"]["on_hand"], found["after"]["on_hand"], found["after"]["available"]) == (7, 8, 7)
    desk.refused("on_hand can't be below 1: so many units of count-1", "recount", "count-1", 0)
    desk.refused("No such SKU: count-9", "recount", "count-9", 5)


def test_the_default_hold_is_set_at_once_and_cleared(desk: Desk) -> None:
    desk.stock("hold-1", 9)

    def deadline_after_s() -> float:
        made = desk.reserve("ann", "hold-1")
        times = [datetime.fromisoformat(made[name]) for name in ("created_at", "expires_at")]
        return (times[1] - times[0]).total_seconds()

    said = "the default hold to 60 s (none was set); live holds keep their time"
    assert desk.rehearsed("default-hold", 60) == f"would set {said}"
    assert deadline_after_s() == 900
    try:
        assert desk.line("default-hold", 60) == f"set {said}"
        assert deadline_after_s() == 60
        desk.refused("whole number of seconds from 1 to 900", "default-hold", 0)
        desk.refused("whole number of seconds from 1 to 900", "default-hold", 901)
        would = desk.document("default-hold", 30, "--dry-run")
        assert (would["seconds"], would["before_seconds"]) == (30, 60)
        assert deadline_after_s() == 60
    finally:
        cleared = desk.line("default-hold", "--clear")
    assert cleared == (
        "cleared the default hold; STOCKADE_DEFAULT_HOLD_SECONDS counts again (it was 60 s); live holds keep their time"
    )
    assert deadline_after_s() == 900


EACH_LEVER = [
    ["pause"],
    ["resume", "a"],
    ["recount", "a", "5"],
    ["release", "--sku", "a"],
    ["default-hold", "60"],
]


@one_kind
@pytest.mark.parametrize("words", EACH_LEVER, ids=" ".join)
def test_behind_a_shut_gate_no_lever_moves_and_each_says_why(
    server: str, run: Command, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "redis.url").write_text(f"{server}\n")
    redis: Any = client(settings(server))
    redis.flushall()
    engine = opened(settings(server), redis)
    engine.stock.configure("a", 9, {}, OPS, Operation())
    engine.reservations.reserve(Origin("ann", user="ann"), [Line("a", 1)], None)
    before = redis.xlen(engine.store.keys.ledger)
    line = one_line(run(*words, "--reason", "x", "--data-dir", tmp_path))
    assert "The gate is closed: not compared with the ledger yet" in line
    redis.hset(engine.store.keys.meta, "run_id", engine.store.run_id())
    engine.scripts.close("t", "a fork")
    for more in ((), ("--dry-run",)):
        assert "The gate is closed: a fork" in one_line(run(*words, "--reason", "x", "--data-dir", tmp_path, *more))
    assert redis.xlen(engine.store.keys.ledger) == before
