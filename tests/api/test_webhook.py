from __future__ import annotations

import json
import time
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis
from werkzeug.test import TestResponse

from api.app import create_app
from engine.engine import Engine, build
from engine.values import Origin
from tests.api.calling import Caller, answered, counters, dump, refused, run_out, signature
from tests.conftest import settings

UNKNOWN_ID = "0123456789ABCDEFabcdef"


def event(reservation_id: str, kind: str = "payment.succeeded", payment_id: str = "p-1") -> bytes:
    return json.dumps({"id": "e-1", "type": kind, "reservation_id": reservation_id, "payment_id": payment_id}).encode()


def deliver(client: FlaskClient, body: bytes, signed: str | None = None, **options: Any) -> TestResponse:
    """Send what the payment provider would; `signed` is the header, a good one if it isn't given."""
    headers = {"Stockade-Signature": signature(body) if signed is None else signed}
    whole = {"data": body, "content_type": "application/json"} | options
    return Caller(client, headers).send("POST", "/v1/payments/webhook", **whole)


def outcome(client: FlaskClient, *words: str) -> str:
    document = answered(deliver(client, event(*words)))
    assert set(document) == {"outcome"}
    return str(document["outcome"])


@pytest.fixture
def held(stocked: Caller, ann: Caller) -> str:
    """The id of ann's hold of 2 mugs."""
    return str(ann.reserve(("mug", 2))["id"])


def bad_signatures() -> dict[str, Any]:
    """Headers by what is wrong with them, each made from the body."""

    def hexadecimal(body: bytes) -> str:
        return signature(body).partition("v1=")[2]

    return {
        "missing": lambda body: "",
        "no version": lambda body: f"t={int(time.time())}",
        "no time": lambda body: f"v1={hexadecimal(body)}",
        "an empty value": lambda body: f"t={int(time.time())},v1=",
        "half of it": lambda body: signature(body)[:-32],
        "more than all": lambda body: signature(body) + "00",
        "no hex": lambda body: signature(body)[:-1] + "g",
        "the other way round": lambda body: f"v1={hexadecimal(body)},t={int(time.time())}",
        "another version": lambda body: signature(body).replace("v1", "v0"),
        "just the hex": hexadecimal,
        "spaces": lambda body: signature(body).replace(",", ", "),
        "an empty part": lambda body: signature(body) + ",",
        "a negative time": lambda body: signature(body).replace("t=", "t=-"),
        "no number": lambda body: f"t=now,v1={hexadecimal(body)}",
        "other digits": lambda body: f"t=\xb2\xb3,v1={hexadecimal(body)}",
        "a huge number": lambda body: f"t={'9' * 5_000},v1={hexadecimal(body)}",
        "another secret": lambda body: signature(body, secret="somebody else's"),
        "an empty secret": lambda body: signature(body, secret=""),
        "another body": lambda body: signature(body + b" "),
        "another time": lambda body: f"t={int(time.time()) - 9},v1={hexadecimal(body)}",
        "too old": lambda body: signature(body, age_s=302),
        "far too old": lambda body: signature(body, age_s=1_000_000_000),
        "too new": lambda body: signature(body, age_s=-303),
        "several, none good": lambda body: signature(body, secret="x") + ",v1=" + "0" * 64,
    }


@pytest.mark.parametrize("wrong", bad_signatures())
def test_without_a_good_signature_nothing_happens(
    client: FlaskClient, held: str, fake_redis: Redis, wrong: str
) -> None:
    body, before = event(held), dump(fake_redis)
    refused(deliver(client, body, bad_signatures()[wrong](body)), 401, "unauthenticated")
    assert dump(fake_redis) == before


def test_without_the_header_nothing_happens(
    client: FlaskClient, held: str, payer: Caller, ops: Caller, fake_redis: Redis
) -> None:
    before = dump(fake_redis)
    for caller in (Caller(client), payer, ops):
        response = caller.post("/v1/payments/webhook", data=event(held), content_type="application/json")
        refused(response, 401, "unauthenticated")
    assert dump(fake_redis) == before


@pytest.mark.parametrize("secret", ["", "another one"])
def test_without_a_secret_no_signature_is_good(held: str, fake_redis: Redis, secret: str) -> None:
    client = create_app(build(settings(STOCKADE_WEBHOOK_SECRET=""), fake_redis)).test_client()
    before = dump(fake_redis)
    body = event(held)
    refused(deliver(client, body, signature(body, secret=secret)), 401, "unauthenticated")
    assert dump(fake_redis) == before


@pytest.mark.parametrize("age_s", [-295, 0, 295])
def test_clocks_may_be_300_seconds_apart(client: FlaskClient, held: str, age_s: int) -> None:
    body = event(held)
    assert answered(deliver(client, body, signature(body, age_s=age_s))) == {"outcome": "committed"}


def test_one_good_signature_of_several_will_do(client: FlaskClient, held: str) -> None:
    body = event(held)
    time_and_good = signature(body)
    signed_at, _, good = time_and_good.partition(",")
    other = "v1=" + "0" * 64
    for header in (f"{signed_at},{other},{good}", f"{signed_at},{good},{other},{other}", time_and_good.upper()):
        header = header.replace("T=", "t=").replace("V1=", "v1=")
        assert answered(deliver(client, body, header)) == {"outcome": "committed"}


def test_the_signature_is_of_the_bytes_that_were_sent(client: FlaskClient, held: str) -> None:
    body = json.dumps(json.loads(event(held)) | {"payment_id": "p-\u00e9"}, indent=3, ensure_ascii=False).encode()
    assert answered(deliver(client, body)) == {"outcome": "committed"}


def test_a_success_commits_once_however_often_it_is_told(
    client: FlaskClient, held: str, stocked: Caller, ann: Caller, payer: Caller, fake_redis: Redis
) -> None:
    assert outcome(client, held) == "committed"
    assert counters(stocked, "mug") == (2, 0, 0, 2)
    order = answered(ann.get(f"/v1/orders/{held}"))
    assert (order["state"], order["payment_id"]) == ("allocated", "p-1")
    before = dump(fake_redis)
    assert outcome(client, held) == "committed"
    answer = answered(payer.post(f"/v1/reservations/{held}/commit", {"payment_id": "p-1"}))
    assert answer == {"order": order, "late": False}
    assert dump(fake_redis) == before
    (event,) = answered(stocked.get("/v1/audit?op=commit"))["items"]
    assert (event["actor"], event["user"], event["payment_id"]) == ("webhook", "ann", "p-1")


def test_a_success_after_the_commit_by_the_shop_is_the_same_one(
    client: FlaskClient, held: str, payer: Caller, fake_redis: Redis
) -> None:
    answered(payer.post(f"/v1/reservations/{held}/commit", {"payment_id": "p-1"}))
    before = dump(fake_redis)
    assert outcome(client, held) == "committed"
    assert dump(fake_redis) == before


def test_a_second_payment_for_one_reservation_must_be_refunded(
    client: FlaskClient, held: str, stocked: Caller, fake_redis: Redis
) -> None:
    assert outcome(client, held) == "committed"
    assert outcome(client, held, "payment.succeeded", "p-2") == "refund_required"
    before = dump(fake_redis)
    assert outcome(client, held, "payment.succeeded", "p-2") == "refund_required"
    assert outcome(client, held) == "committed"
    assert dump(fake_redis) == before
    (event,) = answered(stocked.get("/v1/audit?op=refund_required"))["items"]
    assert (event["reservation_id"], event["payment_id"]) == (held, "p-2")
    assert counters(stocked, "mug") == (2, 0, 0, 2)


@pytest.mark.parametrize("end", ["released", "expired", "overdue"])
def test_a_late_success_takes_stock_that_is_free_and_is_refunded_if_it_is_gone(
    client: FlaskClient, held: str, stocked: Caller, ann: Caller, bob: Caller, fake_engine: Engine, end: str
) -> None:
    if end == "released":
        answered(ann.delete(f"/v1/reservations/{held}"))
    else:
        run_out(fake_engine, held, "mug")
        if end == "expired":
            assert fake_engine.expiry.sweep(Origin("keeper")).expired == 1
    in_the_way = bob.reserve(("mug", 1))["id"]
    assert outcome(client, held) == "refund_required"
    answered(bob.delete(f"/v1/reservations/{in_the_way}"))
    assert outcome(client, held) == "refund_required"
    assert outcome(client, held, "payment.succeeded", "p-2") == "committed"
    assert counters(stocked, "mug") == (2, 0, 0, 2)


def test_a_failure_is_noted_and_the_hold_stays(client: FlaskClient, held: str, fake_redis: Redis) -> None:
    assert outcome(client, held, "payment.failed") == "noted"
    before = dump(fake_redis)
    assert outcome(client, held, "payment.failed") == "noted"
    assert dump(fake_redis) == before
    assert outcome(client, held) == "committed"
    assert outcome(client, held, "payment.failed", "p-2") == "noted"


def test_a_cancellation_releases_once(
    client: FlaskClient, held: str, stocked: Caller, ann: Caller, fake_redis: Redis
) -> None:
    assert outcome(client, held, "payment.canceled") == "released"
    assert answered(ann.get(f"/v1/reservations/{held}"))["state"] == "released"
    assert counters(stocked, "mug") == (2, 2, 0, 0)
    before = dump(fake_redis)
    assert outcome(client, held, "payment.canceled") == "released"
    assert dump(fake_redis) == before
    (event,) = answered(stocked.get("/v1/audit?op=release"))["items"]
    assert (event["actor"], event["user"]) == ("webhook", "ann")


def test_a_cancellation_of_what_is_paid_is_ignored(client: FlaskClient, held: str, fake_redis: Redis) -> None:
    assert outcome(client, held) == "committed"
    before = dump(fake_redis)
    assert outcome(client, held, "payment.canceled") == "ignored"
    assert outcome(client, held, "payment.canceled", "p-2") == "ignored"
    assert dump(fake_redis) == before


@pytest.mark.parametrize("kind", ["payment.created", "PAYMENT.SUCCEEDED", "payment.succeeded ", "refund", "?"])
def test_an_unknown_type_is_refused_with_those_there_are(
    client: FlaskClient, held: str, fake_redis: Redis, kind: str
) -> None:
    before = dump(fake_redis)
    for reservation in (held, UNKNOWN_ID):
        problem = refused(deliver(client, event(reservation, kind)), 422, "validation_failed")
        assert "payment.cancelled" in problem["errors"]["type"][0]
    assert dump(fake_redis) == before


@pytest.mark.parametrize("kind", ["payment.succeeded", "payment.failed", "payment.canceled"])
def test_an_event_of_an_unknown_reservation_is_kept_and_keeps_the_webhook_alive(
    client: FlaskClient, stocked: Caller, kind: str
) -> None:
    unknown = (UNKNOWN_ID, "x", "{p0}", "meta", "\u00e4")
    for reservation in unknown * 2:
        assert outcome(client, reservation, kind) == "unknown_reservation"
    kept = answered(stocked.get("/v1/audit?op=unknown_reservation"))["items"]
    assert [one["reservation_id"] for one in kept] == list(unknown)


def test_a_payment_that_paid_elsewhere_is_ignored(client: FlaskClient, held: str, bob: Caller) -> None:
    other = bob.reserve(("tee", 1))["id"]
    assert outcome(client, held) == "committed"
    assert outcome(client, other) == "ignored"
    assert answered(bob.get(f"/v1/reservations/{other}"))["state"] == "reserved"


def test_the_cancelling_of_an_earlier_attempt_is_ignored(client: FlaskClient, held: str, ann: Caller) -> None:
    assert outcome(client, held, "payment.failed", "p-1") == "noted"
    assert outcome(client, held, "payment.processing", "p-2") == "noted"
    assert outcome(client, held, "payment.canceled", "p-1") == "ignored"
    assert answered(ann.get(f"/v1/reservations/{held}"))["state"] == "reserved"
    assert outcome(client, held, "payment.cancelled", "p-2") == "released"


def test_a_body_that_is_no_event_is_refused_although_it_is_signed(
    client: FlaskClient, held: str, fake_redis: Redis
) -> None:
    good: dict[str, Any] = json.loads(event(held))
    before = dump(fake_redis)
    for data in (b"", b"{", b"null ,", b"\xff", b"[" * 20_000):
        refused(deliver(client, data), 400, "bad_request")
    for content_type in (None, "text/plain", "application/x-www-form-urlencoded"):
        refused(deliver(client, event(held), content_type=content_type), 400, "bad_request")
    for document in (None, [], [good], "event", 1):
        problem = refused(deliver(client, json.dumps(document).encode()), 422, "validation_failed")
        assert problem["errors"]["body"]
    for name in good:
        wrong: list[Any] = [None, "", "x" * 256, "a\x00", 1, True, [], {}]
        for value in wrong:
            problem = refused(deliver(client, json.dumps(good | {name: value}).encode()), 422, "validation_failed")
            assert problem["errors"][name]
        missing = {other: value for other, value in good.items() if other != name}
        problem = refused(deliver(client, json.dumps(missing).encode()), 422, "validation_failed")
        assert problem["errors"][name]
    refused(deliver(client, json.dumps(good | {"amount": 7}).encode()), 422, "validation_failed")
    refused(deliver(client, json.dumps(good).encode() + b" " * 65_536), 413, "payload_too_large")
    assert dump(fake_redis) == before


def test_behind_a_closed_gate_the_provider_is_told_to_come_back(
    client: FlaskClient, held: str, fake_redis: Redis
) -> None:
    fake_redis.hset("stk:{p0}:meta", "gate", "closed")
    before = dump(fake_redis)
    refused(deliver(client, event(held)), 503, "closed")
    refused(deliver(client, event(held, "payment.canceled")), 503, "closed")
    assert dump(fake_redis) == before
