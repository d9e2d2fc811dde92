from __future__ import annotations

import re
from typing import Any

import pytest
from redis import Redis

from api.views.health import READY
from engine.ledger import Reached
from engine.overview import Overview, Record
from engine.states import Op
from engine.store import Store
from tests.api.calling import Caller, answered, dump, refused
from tests.doubles import StreamLedger

NOTHING_WAITS = Reached(1, 1_000_000, 0, 0, 0, 0)
EVENT_FIELDS = {"epoch", "seq", "at", "op", "actor", "user", "reservation_id", "lines", "reason", "payment_id"}


def test_selling_stops_and_goes_on(stocked: Caller, ann: Caller, payer: Caller) -> None:
    assert answered(stocked.get("/v1/selling")) == {"paused": False, "reason": ""}
    held = ann.reserve(("tee", 1))["id"]
    stopped = {"paused": True, "reason": "price error"}
    assert answered(stocked.put("/v1/selling", stopped)) == stopped
    assert answered(stocked.get("/v1/selling")) == stopped
    problem = refused(
        ann.post("/v1/reservations", {"lines": [{"sku": "tee", "quantity": 1}]}), 409, "lines_unavailable"
    )
    assert problem["lines"][0]["verdict"] == "paused"
    answered(payer.post(f"/v1/reservations/{held}/commit", {"payment_id": "p"}))
    going = {"paused": False, "reason": "fixed"}
    assert answered(stocked.put("/v1/selling", going)) == going
    ann.reserve(("tee", 1))


def test_selling_does_not_stop_for_a_blank(stocked: Caller) -> None:
    problem = refused(stocked.put("/v1/selling", {"paused": True, "reason": " "}), 422, "validation_failed")
    assert set(problem["errors"]) == {"reason"}
    assert answered(stocked.get("/v1/selling")) == {"paused": False, "reason": ""}


def test_the_audit_tells_who_did_what_in_order(stocked: Caller, ann: Caller, payer: Caller) -> None:
    held = ann.reserve(("tee", 2), ("mug", 1))["id"]
    answered(payer.post(f"/v1/reservations/{held}/commit", {"payment_id": "p-9"}))
    answered(
        stocked.post(
            f"/v1/orders/{held}/cancel", {"reason": "broken", "lines": [{"sku": "mug", "quantity": 1}]}, key="k"
        )
    )
    audit = answered(stocked.get("/v1/audit"))
    assert set(audit) == {"items", "next"}
    assert all(set(item) == EVENT_FIELDS for item in audit["items"])
    assert [item["seq"] for item in audit["items"]] == [1, 2, 3, 4, 5]
    assert [item["op"] for item in audit["items"]] == ["recount", "recount", "reserve", "commit", "cancel"]
    reserve, commit, cancel = audit["items"][2:]
    both = [{"sku": "tee", "quantity": 2}, {"sku": "mug", "quantity": 1}]
    assert _told(reserve) == ("ann", "ann", held, both, "", "")
    assert _told(commit) == ("psp", "ann", held, both, "", "p-9")
    assert _told(cancel) == ("olga", "ann", held, [{"sku": "mug", "quantity": 1}], "broken", "p-9")


def test_the_audit_is_filtered_and_paged(stocked: Caller, ann: Caller, bob: Caller) -> None:
    held = ann.reserve(("tee", 1))["id"]
    bob.reserve(("mug", 1))
    answered(ann.delete(f"/v1/reservations/{held}"))

    def seqs(query: str) -> list[int]:
        return [item["seq"] for item in answered(stocked.get(f"/v1/audit?{query}"))["items"]]

    assert seqs("sku=tee") == [1, 3, 5]
    assert seqs("user=bob") == [4]
    assert seqs("op=reserve") == [3, 4]
    assert seqs(f"reservation_id={held}&op=release") == [5]
    assert seqs("op=refund_required") == []
    problem = refused(stocked.get("/v1/audit?op=refund-required"), 422, "validation_failed")
    assert all(op in problem["detail"] for op in Op)
    found: list[int] = []
    query = "limit=2"
    while query:
        page = answered(stocked.get(f"/v1/audit?{query}"))
        found += [item["seq"] for item in page["items"]]
        query = page["next"] and f"limit=2&after={page['next']}"
    assert found == [1, 2, 3, 4, 5]


def test_a_process_that_answers_is_healthy(guest: Caller) -> None:
    assert answered(guest.get("/healthz")) == {"status": "ok"}


def test_ready_names_every_part_and_what_is_missing(
    guest: Caller, fake_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The fakes stand in for the server's INFO and for Postgres.
    monkeypatch.setattr(Store, "run_id", lambda store: "none")
    writable = [""]
    monkeypatch.setattr(StreamLedger, "unwritable", lambda ledger: writable[0])
    monkeypatch.setattr(StreamLedger, "reached", lambda ledger: NOTHING_WAITS)
    keeper, meta = "stk:{p0}:keeper", "stk:{p0}:meta"
    ready = {"redis": "ok", "gate": "open", "postgres": "ok", "keeper": "alive", "record": "ok"}
    ready |= dict.fromkeys(("clock", "aof", "snapshot", "log"), "ok")
    assert ready == READY
    fake_redis.set(keeper, "somewhere:1")
    assert answered(guest.get("/readyz")) == {"status": "ready", "checks": ready}
    fake_redis.delete(keeper)
    assert _not_ready(guest) == ready | {"keeper": "missing"}
    fake_redis.set(keeper, "somewhere:1")
    fake_redis.hset(meta, "gate", "closed")
    assert _not_ready(guest) == ready | {"gate": "closed"}
    fake_redis.hset(meta, "gate_reason", "being restored from the ledger")
    assert _not_ready(guest) == ready | {"gate": "closed: being restored from the ledger"}
    fake_redis.hset(meta, "gate", "open")
    assert answered(guest.get("/readyz"))["checks"] == ready
    fake_redis.hset(meta, "run_id", "of the server before")
    assert _not_ready(guest) == ready | {"gate": "closed: not compared with the ledger yet"}
    fake_redis.hset(meta, "run_id", "none")
    writable[0] = "the table ledger is missing"
    assert _not_ready(guest) == ready | {"postgres": "the table ledger is missing"}
    writable[0] = ""
    fake_redis.flushall()
    assert _not_ready(guest) == ready | {"gate": "closed", "keeper": "missing"}


def test_a_part_that_stops_no_sale_is_named_by_a_service_that_is_ready(
    guest: Caller, fake_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "run_id", lambda store: "none")
    monkeypatch.setattr(StreamLedger, "unwritable", lambda ledger: "")
    monkeypatch.setattr(StreamLedger, "reached", lambda ledger: NOTHING_WAITS)
    fake_redis.set("stk:{p0}:keeper", "somewhere:1")
    monkeypatch.setattr(Overview, "_read", lambda overview, glance, reached: Record(0, 0, 0, 1_800_001, 0))
    checks = answered(guest.get("/readyz"), 200)["checks"]
    assert checks == READY | {"snapshot": "old"}


def test_without_postgres_it_is_not_ready(guest: Caller, fake_redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "run_id", lambda store: "none")
    fake_redis.set("stk:{p0}:keeper", "somewhere:1")
    assert _not_ready(guest) == READY | {"postgres": "unavailable", "snapshot": "unknown"}


@pytest.mark.parametrize("path", ["/v1/skus/tee", "/v1/selling", "/healthz", "/v1/nothing"])
def test_a_valid_request_id_comes_back(stocked: Caller, path: str) -> None:
    assert stocked.get(path, headers={"X-Request-Id": "a.B_c-9"}).headers["X-Request-Id"] == "a.B_c-9"


@pytest.mark.parametrize("given", ["", "with space", "x" * 65, "a\x07", "ä"])
def test_an_invalid_request_id_is_replaced(guest: Caller, given: str) -> None:
    first, second = (guest.get("/healthz", headers={"X-Request-Id": given}).headers["X-Request-Id"] for _ in "12")
    assert given != first != second
    assert first.isalnum()


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/skus/tee", {"GET", "HEAD", "OPTIONS", "PUT"}),
        ("GET", "/v1/skus/tee/adjustments", {"OPTIONS", "POST"}),
        ("GET", "/v1/reservations", {"OPTIONS", "POST"}),
        ("PATCH", "/v1/reservations/x", {"DELETE", "GET", "HEAD", "OPTIONS"}),
        ("GET", "/v1/orders/x/cancel", {"OPTIONS", "POST"}),
        ("POST", "/v1/availability/tee", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/v1/selling", {"GET", "HEAD", "OPTIONS", "PUT"}),
        ("BREW", "/v1/audit", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/healthz", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    guest: Caller, fake_redis: Redis, method: str, path: str, allowed: set[str]
) -> None:
    before = dump(fake_redis)
    response = guest.send(method, path)
    refused(response, 405, "method_not_allowed")
    assert set(response.headers["Allow"].split(", ")) == allowed
    assert dump(fake_redis) == before


def test_the_first_page_says_what_runs_here_and_leads_on(guest: Caller) -> None:
    page = guest.get("/")
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "Stockade" in page.text
    links = re.findall(r'href="([^"]+)"', page.text)
    assert {"docs/", "openapi.json", "console", "metrics", "readyz"} <= set(links)
    for link in links:
        if not link.startswith("data:"):
            assert not re.match(r"(\w+:)?//", link)
            with guest.get(f"/{link}") as response:
                assert response.status_code != 404, link
    refused(guest.get("/console/start.html"), 404, "not_found")
    assert guest.send("HEAD", "/").status_code == 200


@pytest.mark.parametrize("path", ["/v1", "/v1/nothing", "/v1/skus/tee/", "/v2/skus", "/docs/../setup.cfg"])
def test_an_unknown_path_is_not_found(stocked: Caller, path: str) -> None:
    refused(stocked.get(path), 404, "not_found")


def _told(event: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(event[name] for name in ("actor", "user", "reservation_id", "lines", "reason", "payment_id"))


def _not_ready(guest: Caller) -> dict[str, str]:
    document = answered(guest.get("/readyz"), 503)
    assert document["status"] == "not_ready"
    checks: dict[str, str] = document["checks"]
    return checks
