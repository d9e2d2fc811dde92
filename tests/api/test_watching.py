"""What is told of requests: the log, and the page for Prometheus."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from api import journal
from api.app import Stockade
from api.journal import MAX_WRITTEN_BYTES, pieces
from engine.errors import StoreUnavailable
from engine.ids import known_as
from engine.meter import REGISTRY
from engine.store import Glance, Store
from tests.api.calling import Caller, answered, refused

LINE = {"lines": [{"sku": "tee", "quantity": 1}]}
FIELDS = {
    *("event", "request_id", "user", "reservation_id", "method", "route", "status", "code", "microseconds"),
    *("level", "timestamp"),
}


class Log:
    def __init__(self, app: Stockade, capfd: pytest.CaptureFixture[str]) -> None:
        self._app = app
        self._capfd = capfd
        self.text = ""
        # What others have left.
        self.lines()

    def lines(self) -> list[dict[str, Any]]:
        """What was written since the last look."""
        ours = self._app.journal
        ours.catch_up()
        while not ours._parcels.empty():
            ours.write()
        self.text = self._capfd.readouterr().err
        return [line for line in map(json.loads, self.text.splitlines()) if line["event"] == "request"]


@pytest.fixture
def log(client: FlaskClient, capfd: pytest.CaptureFixture[str]) -> Log:
    app = client.application
    assert isinstance(app, Stockade)
    return Log(app, capfd)


def samples(page: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(page)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_each_request_is_one_line_with_all_that_leads_to_its_events(stocked: Caller, ann: Caller, log: Log) -> None:
    log.lines()
    answer = ann.post("/v1/reservations", LINE)
    held = answered(answer, 201)["id"]
    [line] = log.lines()
    assert set(line) == FIELDS
    assert line["request_id"] == answer.headers["X-Request-Id"]
    assert (line["method"], line["route"], line["status"], line["code"]) == ("POST", "/v1/reservations", 201, "ok")
    assert line["reservation_id"] == held
    assert 0 < line["microseconds"] < 60_000_000
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])


def test_a_buyer_is_the_same_hash_in_every_line_and_nobody_else(
    stocked: Caller, ann: Caller, bob: Caller, log: Log
) -> None:
    held = ann.reserve(("tee", 1))["id"]
    refused(bob.get(f"/v1/reservations/{held}"), 404, "not_found")
    answered(ann.delete(f"/v1/reservations/{held}"))
    first, other, last = log.lines()[-3:]
    assert first["user"] == last["user"] != other["user"]
    assert re.fullmatch(r"[0-9a-f]{16}", first["user"])
    assert first["user"] == known_as(_secret(log), "ann")
    assert "ann" not in log.text
    assert [line["reservation_id"] for line in (first, other, last)] == [held] * 3


def _secret(log: Log) -> bytes:
    return log._app.extensions["stockade"].engine.settings.id_secret


def test_routes_that_flask_answers_are_told_as_well(stocked: Caller, ann: Caller, payer: Caller, log: Log) -> None:
    held = ann.reserve(("tee", 1))["id"]
    answered(payer.post(f"/v1/reservations/{held}/commit", {"payment_id": "p"}))
    refused(payer.post(f"/v1/reservations/{held}/commit", {"payment_id": "q"}), 409, "already_committed")
    paid, again = log.lines()[-2:]
    assert paid["route"] == again["route"] == "/v1/reservations/<id>/commit"
    assert (paid["code"], again["code"]) == ("ok", "already_committed")
    assert paid["reservation_id"] == again["reservation_id"] == held


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/nothing", "not_found"),
        ("/v1/skus", "unauthenticated"),
        ("/v1/availability?sku=tee&token=secret-in-a-query", "validation_failed"),
        ("/healthz", "ok"),
    ],
)
def test_a_line_has_the_code_of_the_answer(guest: Caller, log: Log, path: str, code: str) -> None:
    guest.get(path)
    assert [line["code"] for line in log.lines()] == [code]
    assert "secret" not in log.text


def test_no_line_has_a_token_or_what_lets_a_guest_in(guest: Caller, ann: Caller, log: Log) -> None:
    cart = answered(guest.post("/v1/carts"), 201)["id"]
    answered(guest.get(f"/v1/carts/{cart}"))
    ann.get("/v1/reservations/no%0Aid%22")
    lines = log.lines()
    assert [line["route"] for line in lines] == ["/v1/carts", "/v1/carts/<id>", "/v1/reservations/<id>"]
    assert [line["reservation_id"] for line in lines] == ["", "", ""]
    assert cart not in log.text
    assert "Bearer" not in log.text


def test_lines_are_written_in_pieces_that_go_through_a_pipe_undivided() -> None:
    lines = [b"x" * 1_000 + b"\n"] * 10
    found = list(pieces(lines))
    assert b"".join(found) == b"".join(lines)
    assert all(len(piece) <= MAX_WRITTEN_BYTES and piece.endswith(b"\n") for piece in found)
    assert [*pieces([b"y" * 5_000])] == [b"y" * 5_000]
    assert [*pieces([])] == []


def test_prometheus_finds_requests_by_route_and_code(stocked: Caller, ann: Caller, guest: Caller, log: Log) -> None:
    def seen() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        log.lines()
        answer = guest.get("/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        return samples(answer.get_data(as_text=True))

    def key(code: str, method: str = "POST", route: str = "/v1/reservations") -> tuple[str, frozenset[tuple[str, str]]]:
        labels = {"method": method, "route": route, "code": code}
        return "stockade_requests_total", frozenset(labels.items())

    before = seen()
    ann.reserve(("tee", 2))
    refused(ann.post("/v1/reservations", {"lines": [{"sku": "tee", "quantity": 999}]}), 409, "lines_unavailable")
    guest.get("/v1/odd/path")
    guest.client.open("/v1/odd", method="BREW")
    after = seen()
    for once in (key("ok"), key("lines_unavailable"), key("not_found", "GET", "-"), key("not_found", "other", "-")):
        assert after[once] - before.get(once, 0.0) == 1
    assert after["stockade_live_reservations", frozenset()] == 1
    units = {"sku": "tee", "state": "reserved"}
    assert after["stockade_sku_units", frozenset(units.items())] == 2
    assert ("stockade_ledger_lag_events", frozenset()) not in after
    assert after["stockade_postgres_up", frozenset()] == 0


def test_a_log_that_nobody_takes_costs_lines_and_holds_up_nobody(
    stocked: Caller, client: FlaskClient, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = client.application
    assert isinstance(app, Stockade)
    log.lines()

    def lost() -> float:
        return REGISTRY.get_sample_value("stockade_log_lines_lost_total") or 0.0

    def gone(descriptor: int, data: object) -> int:
        raise BrokenPipeError

    before = lost()
    monkeypatch.setattr(journal.os, "write", gone)
    client.get("/healthz")
    app.journal.catch_up()
    app.journal.write()
    assert lost() - before == 1
    for _ in range(journal.MAX_PARCELS + 3):
        client.get("/healthz")
        app.journal.catch_up()
    assert lost() - before == 4


def test_counts_are_there_without_redis_and_the_state_says_so(
    guest: Caller, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    def away(store: Store) -> Glance:
        raise StoreUnavailable

    monkeypatch.setattr(Store, "glance", away)
    page = samples(guest.get("/metrics").get_data(as_text=True))
    assert page["stockade_redis_up", frozenset()] == 0
    assert ("stockade_gate_open", frozenset()) not in page
    assert any(name == "stockade_requests_total" for name, _ in page)


def test_a_traceback_in_the_log_has_the_id_of_its_request(
    ops: Caller, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(store: Store, sku: str) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Store, "sku", fail)
    answer = ops.get("/v1/skus/tee")
    refused(answer, 500, "internal_error")
    [told] = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "a bug" in line]
    assert told["request_id"] == answer.headers["X-Request-Id"]
