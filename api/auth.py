"""Who calls: bearer tokens checked once and remembered until they expire, scopes, and acting for a user."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import orjson

from api.problems import Problem
from api.rate import Rate
from engine.config import Settings
from engine.errors import ConfigurationError

CUSTOMER, STOREFRONT, PAYMENTS, OPS = "customer", "storefront", "payments", "ops"

MAX_REMEMBERED = 10_000
"""Tokens whose verification is remembered by one process. A full memory is emptied."""

REQUIRED_CLAIMS = ["exp", "sub"]

NOT_VALID = "The token is not valid: it must be a JWT with sub, exp and scope, signed with a key of this service."


@dataclass(frozen=True)
class Identity:
    """`actor` sent the request; `user` is whose carts, reservations and orders it may touch."""

    actor: str
    user: str
    scopes: frozenset[str]


@dataclass(frozen=True)
class Claims:
    """`identity` is that of who acts for nobody else."""

    identity: Identity
    expires_s: float


class Authenticator:
    """Verifies tokens with the configured key and algorithm only; a token can't choose another.

    Raises:
        ConfigurationError: the JWKS file can't be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._secret = settings.jwt_secret
        self._keys = _public_keys(settings.jwks_file) if settings.jwks_file else {}
        self._audience = settings.jwt_audience or None
        self._known: dict[str, Claims] = {}
        self._rate = Rate(settings.most_requests_per_second)

    def identify(self, authorization: str | None, on_behalf_of: str | None) -> Identity:
        """Say who calls, from the headers `Authorization` and `Stockade-User` (None: not there).

        Raises:
            Problem: `unauthenticated`, `forbidden` to act for somebody else, `bad_request`: that is no user, or
                `too_many_requests` of this user.
        """
        if authorization is None:
            raise unauthenticated("The header Authorization: Bearer <token> is missing.")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise unauthenticated("The header Authorization must be: Bearer <token>.")
        claims = self._known.get(token)
        if claims is None or claims.expires_s <= time.time():
            claims = self._verified(token.strip())
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            self._known[token] = claims
        identity = claims.identity
        if on_behalf_of is not None:
            identity = _acting_for(_utf8(on_behalf_of), identity)
        if (
            self._rate.limits
            and is_limited(identity.scopes, on_behalf_of)
            and (seconds := self._rate.seconds_to_wait(identity.user))
        ):
            raise Problem("too_many_requests", "", headers={"Retry-After": str(math.ceil(seconds))})
        return identity

    def _verified(self, token: str) -> Claims:
        options: Any = {"require": REQUIRED_CLAIMS, "verify_aud": self._audience is not None}
        try:
            key, algorithm = self._key_for(jwt.get_unverified_header(token))
            claims = jwt.decode(token, key, algorithms=[algorithm], audience=self._audience, options=options)
            expires_s = float(claims["exp"])
        except jwt.ExpiredSignatureError as error:
            raise unauthenticated("The token has expired.") from error
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            raise unauthenticated(NOT_VALID) from error
        subject, scope = claims["sub"], claims.get("scope", "")
        if not isinstance(scope, str) or not is_user(subject):
            raise unauthenticated(NOT_VALID)
        return Claims(Identity(subject, subject, frozenset(scope.split(" "))), expires_s)

    def _key_for(self, header: dict[str, Any]) -> tuple[Any, str]:
        if header.get("alg") == "HS256":
            if not self._secret:
                raise jwt.InvalidAlgorithmError
            return self._secret, "HS256"
        key = (
            self._keys.get(header.get("kid"))
            if len(self._keys) != 1 or "kid" in header
            else next(iter(self._keys.values()))
        )
        if key is None or key.algorithm_name != header.get("alg"):
            raise jwt.InvalidKeyError
        return key, key.algorithm_name


def is_limited(scopes: frozenset[str], on_behalf_of: str | None) -> bool:
    """Whether a buyer is behind the request: operators and payments must get through, and a shop's batch is of many."""
    return scopes.isdisjoint({OPS, PAYMENTS}) and (CUSTOMER in scopes or on_behalf_of is not None)


def _acting_for(user: str, identity: Identity) -> Identity:
    if user != identity.actor and STOREFRONT not in identity.scopes:
        raise Problem(
            "forbidden", "Stockade-User names another user; only a token with the scope storefront may act for one."
        )
    if not is_user(user):
        raise Problem(
            "bad_request", "Stockade-User must be 1 to 255 printable characters, without a space at either end."
        )
    return Identity(identity.actor, user, identity.scopes)


def is_user(subject: object) -> bool:
    """A name that others can read and write: nothing invisible in it, and no space around it, which a header would lose."""
    if not isinstance(subject, str) or not 1 <= len(subject) <= 255:
        return False
    return subject.isprintable() and subject == subject.strip()


def _utf8(header: str) -> str:
    """A header's text: WSGI gives its bytes as Latin-1. Bytes that aren't UTF-8 become what no user's name has."""
    return header.encode("latin-1").decode("utf-8", "replace").replace("\ufffd", "\0")


def unauthenticated(detail: str) -> Problem:
    return Problem("unauthenticated", detail, headers={"WWW-Authenticate": "Bearer"})


def _public_keys(path: str) -> dict[str | None, jwt.PyJWK]:
    try:
        keys = jwt.PyJWKSet.from_dict(orjson.loads(Path(path).read_bytes())).keys
    except (OSError, ValueError, TypeError, AttributeError, jwt.PyJWTError) as error:
        raise ConfigurationError(f"STOCKADE_JWKS_FILE is not a JWKS: {path}: {error}") from error
    if any(key.key_type == "oct" for key in keys):
        raise ConfigurationError(f"STOCKADE_JWKS_FILE holds a symmetric key; use STOCKADE_JWT_SECRET for that: {path}")
    return {key.key_id: key for key in keys}
