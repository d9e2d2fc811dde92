"""One statement a route: path, scopes, schemas, refusals. It guards the view, and the OpenAPI document is made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import orjson
from flask import Blueprint, current_app, request
from marshmallow import Schema, ValidationError, fields

from api import context, signature
from api.auth import CUSTOMER, STOREFRONT, Authenticator, Identity
from api.incoming import Incoming
from api.outgoing import Outgoing
from api.problems import INVALID, Problem
from engine.engine import Engine
from engine.ids import is_reservation_id
from engine.values import Operation, Reservation


@dataclass(frozen=True)
class Answer:
    """What a view returns: the value to dump with the route's schema, and what differs from a plain 200."""

    value: Any
    status: int = 200
    headers: Mapping[str, str] | None = None
    replayed: bool = False


@dataclass(frozen=True)
class Request:
    """What a view gets. `body` and `query` are what the route's schemas made of them; `path` is the URL's words."""

    engine: Engine
    call: context.Call
    body: dict[str, Any]
    query: dict[str, Any]

    @property
    def operation(self) -> Operation:
        """The call as something that happens once, if it has an idempotency key."""
        call = self.call
        if not call.idempotency_key:
            return Operation()
        return Operation(
            self.engine.ids.of("operation", call.origin.actor, call.user, call.idempotency_key), call.fingerprint
        )


@dataclass(frozen=True)
class Route:
    """`scopes`: any of them will do; none: public. `guests`: no token will do, too.

    `refusals`: codes of this route beyond those every route has. `signed`: the webhook's signature stands for a token.
    `bodiless`: the body may be left out.
    """

    method: str
    path: str
    summary: str
    answers: Mapping[int, type[Schema]]
    scopes: Sequence[str] = ()
    body: type[Schema] | None = None
    query: type[Schema] | None = None
    refusals: Sequence[str] = ()
    idempotent: bool = False
    guests: bool = False
    signed: bool = False
    bodiless: bool = False
    most_body_bytes: int = 64 * 1024


@dataclass(frozen=True)
class Parts:
    """What every route needs, made once for an app."""

    engine: Engine
    authenticator: Authenticator


Answering = Callable[[Parts, dict[str, Any], dict[str, str]], Outgoing]
"""Answers a request, given the parts, the WSGI environment and the words in its path. Raises what `api.problems` knows."""

OF_ONE = ("/v1/reservations/", "/v1/orders/")
"""Paths whose `id` is that of a reservation."""

ROUTES: list[tuple[Route, Answering]] = []
"""Every route of the service, in the order of the contract. Filled when the views are imported."""

View = Callable[..., Answer]


def route(blueprint: Blueprint, method: str, path: str, summary: str, **kwargs: Any) -> Callable[[View], View]:
    """Make a view answer at `path` and put it into the OpenAPI document. Options: see `Route`."""
    declared = Route(method, (blueprint.url_prefix or "") + path, summary, **kwargs)

    def decorate(view: View) -> View:
        answer = _answering(declared, view)
        ROUTES.append((declared, answer))

        def answer_flask(**words: str) -> Outgoing:
            return answer(current_app.extensions["stockade"], request.environ, words)

        blueprint.add_url_rule(path, view_func=answer_flask, methods=[method], endpoint=view.__name__)
        return view

    return decorate


def _answering(route: Route, view: View) -> Answering:
    body_schema = route.body() if route.body else None
    query_schema = route.query() if route.query else None
    dumpers = {status: schema() for status, schema in route.answers.items()}
    of_one = route.path.startswith(OF_ONE)

    def answer(parts: Parts, environ: dict[str, Any], words: dict[str, str]) -> Outgoing:
        incoming, document, body, query = Incoming(environ), None, {}, {}
        environ["stockade.route"] = route.path
        if of_one and is_reservation_id(words.get("id", "")):
            environ["stockade.reservation_id"] = words["id"]
        identity = _identity(route, incoming, parts)
        if identity:
            environ["stockade.user"] = identity.user
        if body_schema:
            document = context.json_document(incoming, route.most_body_bytes, may_be_missing=route.bodiless)
        call = context.call(incoming, identity, document)
        if body_schema:
            body = _loaded(body_schema, document)
            if is_reservation_id(body.get("reservation_id", "")):
                environ["stockade.reservation_id"] = body["reservation_id"]
        if query_schema:
            query = _loaded(query_schema, _query(query_schema, environ))
        answered = view(Request(parts.engine, call, body, query), **words)
        if isinstance(answered.value, Reservation):
            environ["stockade.reservation_id"] = answered.value.id
        return _dumped(answered, dumpers, bool(call.idempotency_key))

    return answer


def _identity(route: Route, incoming: Incoming, parts: Parts) -> Identity | None:
    if route.signed:
        given = incoming.header("HTTP_STOCKADE_SIGNATURE") or ""
        signature.check(parts.engine.settings.webhook_secret, given, incoming.body(route.most_body_bytes))
    authorization = incoming.header("HTTP_AUTHORIZATION")
    if not route.scopes or (route.guests and authorization is None):
        return None
    acts_for = incoming.header("HTTP_STOCKADE_USER")
    identity = parts.authenticator.identify(authorization or "", acts_for)
    if identity.scopes.isdisjoint(route.scopes):
        raise Problem("forbidden", f"The token needs the scope {' or '.join(route.scopes)}.")
    if acts_for is None and CUSTOMER in route.scopes and identity.scopes.intersection(route.scopes) == {STOREFRONT}:
        if route.guests:
            return None
        raise Problem("forbidden", "With the scope storefront, the header Stockade-User must say for whom.")
    return identity


def _query(schema: Schema, environ: dict[str, Any]) -> dict[str, Any]:
    """Query parameters as the schema wants them: a list where it has a list, else the last one given."""
    lists = {name for name, field in schema.fields.items() if isinstance(field, fields.List)}
    # WSGI gives the bytes that came as Latin-1 text.
    text = environ["QUERY_STRING"].encode("latin-1").decode("utf-8", "replace")
    asked = parse_qs(text, keep_blank_values=True, errors="replace")
    return {name: values if name in lists else values[-1] for name, values in asked.items()}


def _loaded(schema: Schema, document: Any) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = schema.load(document)
    except ValidationError as error:
        raise Problem("validation_failed", INVALID, errors=error.normalized_messages()) from error
    return loaded


def _dumped(answer: Answer, dumpers: Mapping[int, Schema], keyed: bool) -> Outgoing:
    if answer.status == 204:
        return Outgoing(204, b"")
    document = dumpers[answer.status].dump(answer.value)
    # Errors in a list have the index as their key.
    data = orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS)
    outgoing = Outgoing(answer.status, data, "application/json", answer.headers)
    # Without a key the call was repeated by our own client, after a time-out.
    if answer.replayed and keyed:
        outgoing.headers["Idempotent-Replayed"] = "true"
    return outgoing
