from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask.testing import FlaskClient
from redis import Redis

from api import rate
from api.app import create_app
from api.rate import Rate
from tests.api.calling import Caller, answered, bearer, refused, token
from tests.conftest import opened, settings

MOST = 3


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds, as its only item."""
    now_s = [1_000.0]
    monkeypatch.setattr(rate.time, "monotonic", lambda: now_s[0])
    return now_s


@pytest.fixture
def client(fake_redis: Redis, clock: list[float]) -> FlaskClient:
    return create_app(opened(settings(STOCKADE_MOST_REQUESTS_PER_SECOND=str(MOST)), fake_redis)).test_client()


def test_a_seconds_worth_may_come_at_once_and_then_one_at_a_time(clock: list[float]) -> None:
    limit = Rate(MOST)
    assert [limit.seconds_to_wait("ann") for _ in range(MOST)] == [0] * MOST
    assert limit.seconds_to_wait("ann") == pytest.approx(1 / MOST)
    assert limit.seconds_to_wait("bob") == 0
    clock[0] += 1 / MOST
    assert limit.seconds_to_wait("ann") == 0
    assert limit.seconds_to_wait("ann") > 0
    clock[0] += 60
    assert [limit.seconds_to_wait("ann") for _ in range(MOST + 1)].count(0) == MOST


@pytest.mark.parametrize("most", [1, 7, 60, 1_000])
def test_whoever_waits_as_told_gets_exactly_the_rate(clock: list[float], most: int) -> None:
    limit, counted = Rate(most), 0
    while clock[0] < 1_010:
        seconds = limit.seconds_to_wait("ann")
        counted += seconds == 0
        clock[0] += seconds
    assert abs(counted - 11 * most) <= 1


def test_threads_get_no_more_than_one(clock: list[float]) -> None:
    limit = Rate(100)
    with ThreadPoolExecutor(8) as pool:
        waits = list(pool.map(limit.seconds_to_wait, ["ann"] * 2_000))
    assert waits.count(0) == 100


def test_the_memory_is_bounded_and_forgets_the_idle_first(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "MAX_REMEMBERED", 10)
    limit = Rate(1)
    for number in range(9):
        limit.seconds_to_wait(f"early-{number}")
    clock[0] += 2
    limit.seconds_to_wait("ann")
    limit.seconds_to_wait("bob")
    assert limit.seconds_to_wait("ann") > 0
    for number in range(1_000):
        limit.seconds_to_wait(f"late-{number}")
        assert len(limit._next_s) <= 10


def test_no_limit_is_the_default(client: FlaskClient) -> None:
    assert settings().most_requests_per_second == 0
    assert {Rate(0).seconds_to_wait("ann") for _ in range(1_000)} == {0}


def statuses(caller: Caller, path: str = "/v1/reservations/x", **options: str) -> Counter[int]:
    return Counter(caller.get(path, headers=options).status_code for _ in range(MOST + 2))


def test_one_who_hammers_is_told_when_to_come_back_and_nobody_else_is(
    client: FlaskClient, ann: Caller, bob: Caller, clock: list[float]
) -> None:
    assert statuses(ann) == {404: MOST, 429: 2}
    again = Caller(client, bearer(token("ann", "customer", jti="another")))
    response = again.post("/v1/reservations", {"lines": [{"sku": "tee", "quantity": 1}]}, key="k")
    refused(response, 429, "too_many_requests")
    assert response.headers["Retry-After"] == "1"
    assert statuses(bob) == {404: MOST, 429: 2}
    clock[0] += 1
    assert statuses(ann) == {404: MOST, 429: 2}


def test_a_shop_is_limited_for_each_user_and_not_for_all_of_them(shop: Caller, ann: Caller) -> None:
    assert statuses(shop, **{"Stockade-User": "ann"}) == {404: MOST, 429: 2}
    refused(ann.get("/v1/reservations/x"), 429, "too_many_requests")
    assert statuses(shop, **{"Stockade-User": "bob"}) == {404: MOST, 429: 2}
    batch = {"reservations": [{"user": "cleo", "lines": [{"sku": "tee", "quantity": 1}]}]}
    for _ in range(MOST + 2):
        answered(shop.post("/v1/reservations/batch", batch))


@pytest.mark.parametrize("scope", ["ops", "payments", "customer ops", "customer payments"])
def test_operators_and_payments_are_not_limited(client: FlaskClient, scope: str) -> None:
    caller = Caller(client, bearer(token("olga", scope)))
    assert 429 not in statuses(caller, "/v1/orders/x")


def test_guests_are_not_limited(guest: Caller) -> None:
    assert statuses(guest, "/v1/availability/tee") == {404: MOST + 2}
