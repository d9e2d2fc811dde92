from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask.testing import FlaskClient
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from redis import Redis

from api import auth
from api.app import create_app
from engine.engine import build
from engine.errors import ConfigurationError
from tests.api.calling import SECRET, Caller, answered, bearer, dump, forged, refused, token
from tests.conftest import settings
from tests.waiting import wait_until

RESERVE = {"lines": [{"sku": "tee", "quantity": 1}]}
FUTURE_S, PAST_S = 4_000_000_000, 1_000_000_000
GOOD = {"sub": "ann", "scope": "customer", "exp": FUTURE_S}

NEED_A_TOKEN = [
    ("PUT", "/v1/skus/tee", {"on_hand": 1}),
    ("GET", "/v1/skus/tee", None),
    ("GET", "/v1/skus", None),
    ("POST", "/v1/skus/tee/adjustments", {"delta": 1, "reason": "x"}),
    ("POST", "/v1/reservations", RESERVE),
    ("GET", "/v1/reservations/x", None),
    ("POST", "/v1/reservations/x/extend", {"hold_seconds": 1}),
    ("DELETE", "/v1/reservations/x", None),
    ("POST", "/v1/reservations/x/commit", {"payment_id": "p"}),
    ("GET", "/v1/orders/x", None),
    ("POST", "/v1/orders/x/fulfil", None),
    ("POST", "/v1/orders/x/cancel", {"reason": "x"}),
    ("GET", "/v1/audit", None),
    ("GET", "/v1/selling", None),
    ("PUT", "/v1/selling", {"paused": True, "reason": "x"}),
]
SCOPES = {
    "customer": {"/v1/reservations", "/v1/reservations/x", "/v1/reservations/x/extend", "/v1/orders/x"},
    "storefront": {"/v1/reservations", "/v1/reservations/x", "/v1/reservations/x/extend", "/v1/orders/x"},
    "payments": {"/v1/reservations/x/commit"},
    "ops": {path for _, path, _ in NEED_A_TOKEN if not path.startswith("/v1/reservations")},
    "": set(),
    "customers": set(),
    "OPS": set(),
    "ops,customer": set(),
}
"""What each scope opens."""


def unauthenticated(response: Any) -> None:
    refused(response, 401, "unauthenticated")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path", "body"), NEED_A_TOKEN)
def test_every_route_but_availability_needs_a_token(
    guest: Caller, fake_redis: Redis, method: str, path: str, body: Any
) -> None:
    before = dump(fake_redis)
    unauthenticated(guest.send(method, path, json=body))
    assert dump(fake_redis) == before


@pytest.mark.parametrize("scope", SCOPES, ids=repr)
@pytest.mark.parametrize(("method", "path", "body"), NEED_A_TOKEN)
def test_a_token_opens_what_its_scope_is_for_and_nothing_else(
    client: FlaskClient, fake_redis: Redis, method: str, path: str, body: Any, scope: str
) -> None:
    before = dump(fake_redis)
    headers = {"Stockade-User": "ann"} if scope == "storefront" else {}
    response = Caller(client, bearer(token("ann", scope))).send(method, path, json=body, headers=headers)
    if path in SCOPES[scope]:
        assert response.status_code in (200, 201, 404, 409)
    else:
        refused(response, 403, "forbidden")
        assert dump(fake_redis) == before


def test_a_token_may_have_several_scopes(stocked: Caller, client: FlaskClient) -> None:
    both = Caller(client, bearer(token("ann", " payments  customer ")))
    held = both.reserve(("tee", 1))["id"]
    answered(both.post(f"/v1/reservations/{held}/commit", {"payment_id": "p"}))
    refused(both.get("/v1/skus"), 403, "forbidden")


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        "Bearer garbage",
        "Bearer a.b.c",
        "Bearer ..",
        "Bearer " + "x" * 8_000,
        "Bearer \xff\xfe",
        "Bearer bnVsbA.bnVsbA.bnVsbA",
        "Bearer W10.W10.W10",
        "Basic YW5uOnNlY3JldA==",
        token("ann", "customer"),
        "Token " + token("ann", "customer"),
        "Bearer " + token("ann", "customer")[:-2],
        "Bearer " + token("ann", "customer") + "x",
        "Bearer " + token("ann", "customer") + ", Bearer " + token("bob", "customer"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_no_bearer_token_is_refused(client: FlaskClient, authorization: str) -> None:
    unauthenticated(Caller(client, {"Authorization": authorization}).post("/v1/reservations", RESERVE))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_s_case_does_not_matter(stocked: Caller, client: FlaskClient, scheme: str) -> None:
    caller = Caller(client, {"Authorization": f"{scheme} {token('ann', 'customer')}"})
    assert caller.reserve(("tee", 1))["user"] == "ann"


BAD_CLAIMS: list[dict[str, Any]] = [
    {"exp": PAST_S},
    {"exp": 0},
    {"exp": -1},
    {"exp": "soon"},
    {"exp": [FUTURE_S]},
    {"exp": {}},
    {"exp": True},
    {"exp": 10**400},
    {"exp": None},
    {"sub": None},
    {"sub": ""},
    {"sub": "x" * 256},
    {"sub": "a\x00b"},
    {"sub": "a\nb"},
    {"sub": 7},
    {"sub": True},
    {"sub": ["ann"]},
    {"scope": 7},
    {"scope": ["customer"]},
    {"scope": {"customer": True}},
    {"nbf": FUTURE_S},
    {"nbf": "x"},
    {"iat": FUTURE_S},
]


@pytest.mark.parametrize("claims", BAD_CLAIMS, ids=lambda claims: repr(claims)[:30])
def test_a_token_with_wrong_claims_is_refused(client: FlaskClient, claims: dict[str, Any]) -> None:
    given = {name: value for name, value in (GOOD | claims).items() if value is not None}
    signed = forged({"alg": "HS256", "typ": "JWT"}, given)
    unauthenticated(Caller(client, bearer(signed)).post("/v1/reservations", RESERVE))


@pytest.mark.parametrize("claims", [[], "ann", None, 1], ids=repr)
def test_a_token_whose_claims_are_no_object_is_refused(client: FlaskClient, claims: Any) -> None:
    unauthenticated(Caller(client, bearer(forged({"alg": "HS256"}, claims))).get("/v1/skus"))


def test_a_token_without_scope_opens_nothing(client: FlaskClient) -> None:
    refused(
        Caller(client, bearer(forged({"alg": "HS256"}, {"sub": "ann", "exp": FUTURE_S}))).post(
            "/v1/reservations", RESERVE
        ),
        403,
        "forbidden",
    )


@pytest.mark.parametrize(
    ("header", "secret", "digest"),
    [
        ({"alg": "HS256"}, b"another secret, just as long as ours", hashlib.sha256),
        ({"alg": "HS256"}, b"", hashlib.sha256),
        ({"alg": "none"}, b"", hashlib.sha256),
        ({"alg": "None"}, b"", hashlib.sha256),
        ({"alg": "HS512"}, SECRET.encode(), hashlib.sha512),
        ({"alg": "HS384"}, SECRET.encode(), hashlib.sha384),
        ({"alg": "hs256"}, SECRET.encode(), hashlib.sha256),
        ({"alg": "RS256"}, SECRET.encode(), hashlib.sha256),
        ({"alg": 7}, SECRET.encode(), hashlib.sha256),
        ({"alg": ["HS256"]}, SECRET.encode(), hashlib.sha256),
        ({}, SECRET.encode(), hashlib.sha256),
        ({"alg": "RS256", "kid": ["x"]}, SECRET.encode(), hashlib.sha256),
        ({"alg": "HS256", "crit": ["x"]}, SECRET.encode(), hashlib.sha256),
    ],
    ids=repr,
)
def test_a_token_signed_otherwise_is_refused(client: FlaskClient, header: Any, secret: bytes, digest: Any) -> None:
    unauthenticated(Caller(client, bearer(forged(header, GOOD, secret, digest))).post("/v1/reservations", RESERVE))


def test_the_forger_can_make_a_good_token_too(stocked: Caller, client: FlaskClient) -> None:
    assert Caller(client, bearer(forged({"alg": "HS256"}, GOOD))).reserve(("tee", 1))["user"] == "ann"


def test_a_token_that_expires_while_it_is_remembered_is_refused(stocked: Caller, client: FlaskClient) -> None:
    caller = Caller(client, bearer(token("ann", "customer", exp=int(time.time()) + 2)))
    path = f"/v1/reservations/{caller.reserve(('tee', 1))['id']}"
    answered(caller.get(path))
    wait_until(lambda: caller.get(path).status_code != 200, 5)
    unauthenticated(caller.get(path))


def test_the_memory_of_tokens_is_bounded(stocked: Caller, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "MAX_REMEMBERED", 3)
    for number in range(8):
        refused(Caller(client, bearer(token(f"user-{number}", "customer"))).get("/v1/skus"), 403, "forbidden")
    assert len(client.application.extensions["stockade"].authenticator._known) <= 3


def test_an_audience_is_asked_for_where_one_is_set(fake_redis: Redis) -> None:
    client = create_app(build(settings(STOCKADE_JWT_AUDIENCE="stockade"), fake_redis)).test_client()
    answered(Caller(client, bearer(token("o", "ops", aud="stockade"))).get("/v1/skus"))
    answered(Caller(client, bearer(token("o", "ops", aud=["other", "stockade"]))).get("/v1/skus"))
    unauthenticated(Caller(client, bearer(token("o", "ops", aud="other"))).get("/v1/skus"))
    unauthenticated(Caller(client, bearer(token("o", "ops"))).get("/v1/skus"))


class Keys:
    """A key of each kind, and the JWKS of their public halves."""

    def __init__(self) -> None:
        self.rsa = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.ed = ed25519.Ed25519PrivateKey.generate()

    def jwk(self, algorithm: str) -> dict[str, Any]:
        makers: dict[str, Any] = {
            "RS256": lambda: RSAAlgorithm.to_jwk(self.rsa.public_key(), as_dict=True),
            "ES256": lambda: ECAlgorithm.to_jwk(self.ec.public_key(), as_dict=True),
            "EdDSA": lambda: OKPAlgorithm.to_jwk(self.ed.public_key(), as_dict=True),
        }
        return dict(makers[algorithm]()) | {"kid": algorithm, "alg": algorithm, "use": "sig"}

    def signed(self, algorithm: str, **header: Any) -> str:
        private: dict[str, Any] = {"RS256": self.rsa, "ES256": self.ec, "EdDSA": self.ed}
        return jwt.encode(GOOD | {"scope": "ops"}, private[algorithm], algorithm=algorithm, headers=header)


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys()


def with_jwks(fake_redis: Redis, path: Path, document: Any, **more: str) -> FlaskClient:
    path.write_bytes(document if isinstance(document, bytes) else orjson.dumps(document))
    own = {"STOCKADE_JWKS_FILE": str(path), "STOCKADE_JWT_SECRET": "", "STOCKADE_ID_SECRET": "for the tests"}
    return create_app(build(settings(**(own | more)), fake_redis)).test_client()


@pytest.fixture
def three_keys(fake_redis: Redis, tmp_path: Path, keys: Keys) -> FlaskClient:
    """Tokens are checked with any of three public keys, and with no secret."""
    return with_jwks(
        fake_redis, tmp_path / "jwks.json", {"keys": [keys.jwk(name) for name in ("RS256", "ES256", "EdDSA")]}
    )


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_token_signed_with_a_key_of_the_jwks_is_taken(three_keys: FlaskClient, keys: Keys, algorithm: str) -> None:
    answered(Caller(three_keys, bearer(keys.signed(algorithm, kid=algorithm))).get("/v1/skus"))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_one_key_alone_needs_no_kid(fake_redis: Redis, tmp_path: Path, keys: Keys, algorithm: str) -> None:
    client = with_jwks(fake_redis, tmp_path / "jwks.json", {"keys": [keys.jwk(algorithm)]})
    answered(Caller(client, bearer(keys.signed(algorithm))).get("/v1/skus"))
    unauthenticated(Caller(client, bearer(keys.signed(algorithm, kid="unknown"))).get("/v1/skus"))


def test_an_unknown_or_missing_or_wrong_kid_is_refused(three_keys: FlaskClient, keys: Keys) -> None:
    for header in ({"kid": "unknown"}, {}, {"kid": ""}, {"kid": "EdDSA"}, {"kid": "ES256"}):
        unauthenticated(Caller(three_keys, bearer(keys.signed("RS256", **header))).get("/v1/skus"))


def test_a_key_not_in_the_jwks_is_refused(three_keys: FlaskClient) -> None:
    stranger = Keys()
    for algorithm in ("RS256", "ES256", "EdDSA"):
        unauthenticated(Caller(three_keys, bearer(stranger.signed(algorithm, kid=algorithm))).get("/v1/skus"))


def test_another_algorithm_of_the_same_key_is_refused(three_keys: FlaskClient, keys: Keys) -> None:
    signed = jwt.encode(GOOD | {"scope": "ops"}, keys.rsa, algorithm="PS256", headers={"kid": "RS256"})
    unauthenticated(Caller(three_keys, bearer(signed)).get("/v1/skus"))


def test_a_public_key_is_no_secret(three_keys: FlaskClient, keys: Keys) -> None:
    public = keys.rsa.public_key()
    forms = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
        orjson.dumps(keys.jwk("RS256")),
        b"",
    ]
    for form in forms:
        for header in ({"alg": "HS256"}, {"alg": "HS256", "kid": "RS256"}, {"alg": "RS256", "kid": "RS256"}):
            signed = forged(header, GOOD | {"scope": "ops"}, form)
            unauthenticated(Caller(three_keys, bearer(signed)).get("/v1/skus"))
    unauthenticated(Caller(three_keys, bearer(token("ann", "ops"))).get("/v1/skus"))


def test_a_secret_and_a_jwks_may_stand_side_by_side(fake_redis: Redis, tmp_path: Path, keys: Keys) -> None:
    document = {"keys": [keys.jwk("RS256"), keys.jwk("ES256")]}
    client = with_jwks(fake_redis, tmp_path / "jwks.json", document, STOCKADE_JWT_SECRET=SECRET)
    answered(Caller(client, bearer(token("ann", "ops"))).get("/v1/skus"))
    answered(Caller(client, bearer(keys.signed("ES256", kid="ES256"))).get("/v1/skus"))
    public = keys.rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = forged({"alg": "HS256", "kid": "RS256"}, GOOD | {"scope": "ops"}, public)
    unauthenticated(Caller(client, bearer(signed)).get("/v1/skus"))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"no JSON",
        b"\xff",
        [],
        None,
        "keys",
        {},
        {"keys": []},
        {"keys": None},
        {"keys": ["x"]},
        {"keys": [{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXM", "kid": "x"}]},
    ],
    ids=lambda document: repr(document)[:30],
)
def test_a_file_that_is_no_jwks_of_public_keys_stops_the_start(
    fake_redis: Redis, tmp_path: Path, document: Any
) -> None:
    with pytest.raises(ConfigurationError, match="STOCKADE_JWKS_FILE"):
        with_jwks(fake_redis, tmp_path / "jwks.json", document)
