from __future__ import annotations

import fakeredis
import pytest

from api import problems
from api.app import create_app
from api.route import ROUTES, Route
from engine.config import from_environment
from engine.errors import ConfigurationError
from tests.api.calling import Caller, answered, bearer, token
from tests.api.every_route import every_route, where
from tests.conftest import SECRETS, opened, settings

SHOP, OTHER = "https://shop.example", "https://evil.example"
APP = create_app(
    opened(settings(STOCKADE_CORS_ORIGINS=f"{SHOP}, http://localhost:3000"), fakeredis.FakeRedis(decode_responses=True))
)
BROWSER = Caller(APP.test_client(), {"Origin": SHOP})


def path_of(route: Route) -> str:
    return route.path.replace("<id>", "x").replace("<sku>", "tee")


def preflight(route: Route, origin: str) -> dict[str, str]:
    asks = {"Origin": origin, "Access-Control-Request-Method": route.method}
    response = Caller(APP.test_client()).send("OPTIONS", path_of(route), headers=asks)
    assert response.status_code == 200
    assert response.data == b""
    return {name.lower(): value for name, value in response.headers.items()}


@where(lambda route: not route.is_for_operators)
def test_a_page_of_a_known_origin_may_call_what_is_not_for_operators(route: Route) -> None:
    allowed = preflight(route, SHOP)
    assert allowed["access-control-allow-origin"] == SHOP
    assert allowed["access-control-allow-methods"] == route.method
    assert {"authorization", "content-type", "idempotency-key", "stockade-user"} <= {
        name.strip() for name in allowed["access-control-allow-headers"].lower().split(",")
    }
    assert int(allowed["access-control-max-age"]) > 0
    answer = BROWSER.send(route.method, path_of(route))
    assert answer.headers["Access-Control-Allow-Origin"] == SHOP
    assert answer.headers["Vary"] == "Origin"
    exposed = {name.strip() for name in answer.headers["Access-Control-Expose-Headers"].split(",")}
    assert exposed == {"Location", "Retry-After", "X-Request-Id", "Idempotent-Replayed", "ETag"}
    assert "Access-Control-Allow-Credentials" not in answer.headers


@where(lambda route: route.is_for_operators)
def test_no_page_may_call_what_is_for_operators(route: Route) -> None:
    assert not [name for name in preflight(route, SHOP) if name.startswith("access-control-")]
    answer = BROWSER.send(route.method, path_of(route), headers=bearer(token("o", "ops")))
    assert "Access-Control-Allow-Origin" not in answer.headers


@every_route
def test_no_page_of_another_origin_may_call_anything(route: Route) -> None:
    for origin in (OTHER, "null", f"{SHOP}.evil.example", SHOP.upper(), "https://shop.example:8443"):
        assert not [name for name in preflight(route, origin) if name.startswith("access-control-")]
        answer = Caller(APP.test_client()).send(route.method, path_of(route), headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.headers["Vary"] == "Origin"


def test_a_304_is_shown_to_a_page_as_well() -> None:
    answered(Caller(APP.test_client(), bearer(token("o", "ops"))).put("/v1/skus/tee", {"on_hand": 1}), 201)
    tag = BROWSER.get("/v1/availability/tee").headers["ETag"]
    again = BROWSER.get("/v1/availability/tee", headers={"If-None-Match": tag})
    assert again.status_code == 304
    assert again.headers["Access-Control-Allow-Origin"] == SHOP


def test_without_origins_nothing_is_said_of_them(guest: Caller) -> None:
    assert len(ROUTES) > 20
    for method in ("GET", "OPTIONS"):
        response = guest.send(method, "/v1/availability?sku=x", headers={"Origin": SHOP})
        assert "Vary" not in response.headers
        assert not [name for name, _ in response.headers.items() if name.startswith("Access-Control-")]


def test_a_refusal_by_a_worker_that_cannot_keep_up_is_shown_to_a_page_as_well() -> None:
    told = problems.on_the_wire("store_unavailable", "", "id", headers=APP.cors.of_origin(SHOP)).decode()
    assert f"\r\nAccess-Control-Allow-Origin: {SHOP}\r\n" in told
    assert "\r\nCache-Control: no-store\r\n" in told
    assert APP.cors.of_origin(OTHER) == APP.cors.of_origin("") == {}


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "null",
        "shop.example",
        "https://shop.example/",
        "https://Shop.example",
        "https://a b",
        "https://*.example",
        "ftp://x",
    ],
)
def test_what_no_browser_sends_as_an_origin_is_refused_at_the_start(text: str) -> None:
    environment = SECRETS | {"STOCKADE_REDIS_URL": "redis://x", "STOCKADE_CORS_ORIGINS": f"{SHOP},{text}"}
    with pytest.raises(ConfigurationError, match="STOCKADE_CORS_ORIGINS must be origins like"):
        from_environment(environment)
