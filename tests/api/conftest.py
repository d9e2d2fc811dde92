from __future__ import annotations

from collections.abc import Iterator

import fakeredis
import pytest
import structlog
from flask.testing import FlaskClient

from api.app import Stockade, create_app
from api.auth import Authenticator
from api.route import Parts
from engine import log
from engine.engine import Engine, build
from engine.store import Store
from tests import doubles
from tests.api.calling import Caller, bearer, token
from tests.conftest import settings


@pytest.fixture(autouse=True)
def logging_as_in_production() -> Iterator[None]:
    log.configure()
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def no_info(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "glance", doubles.glance)


@pytest.fixture(scope="session")
def app() -> Stockade:
    """The routes, which take longer to make than most tests take."""
    return create_app(build(settings(), fakeredis.FakeRedis()))


@pytest.fixture
def client(app: Stockade, fake_engine: Engine) -> FlaskClient:
    """Calls the service with an engine, and with tokens remembered, of this test's own."""
    app.extensions["stockade"] = app._parts = Parts(fake_engine, Authenticator(fake_engine.settings))
    return app.test_client()


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
