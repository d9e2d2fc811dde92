from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from flask.testing import FlaskClient

from api.app import create_app
from engine import log
from engine.engine import Engine
from engine.store import Store
from tests import doubles
from tests.api.calling import Caller, bearer, token


@pytest.fixture(autouse=True)
def logging_as_in_production() -> Iterator[None]:
    log.configure()
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def no_info(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "glance", doubles.glance)


@pytest.fixture
def client(fake_engine: Engine) -> FlaskClient:
    return create_app(fake_engine).test_client()


@pytest.fixture
def guest(client: FlaskClient) -> Caller:
    return Caller(client)


@pytest.fixture
def ann(client: FlaskClient) -> Caller:
    return Caller(client, bearer(token("ann", "customer")))


@pytest.fixture
def bob(client: FlaskClient) -> Caller:
    return Caller(client, bearer(token("bob", "customer")))


@pytest.fixture
def shop(client: FlaskClient) -> Caller:
    return Caller(client, bearer(token("shop", "storefront")))


@pytest.fixture
def payer(client: FlaskClient) -> Caller:
    return Caller(client, bearer(token("psp", "payments")))


@pytest.fixture
def ops(client: FlaskClient) -> Caller:
    return Caller(client, bearer(token("olga", "ops")))


@pytest.fixture
def stocked(ops: Caller) -> Caller:
    """The operator, who has put 10 units of `tee` and 2 of `mug` on the shelf."""
    assert ops.put("/v1/skus/tee", {"on_hand": 10}).status_code == 201
    assert ops.put("/v1/skus/mug", {"on_hand": 2}).status_code == 201
    return ops
