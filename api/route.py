"""One statement a route: path, scopes, schemas, refusals. It guards the view, and the OpenAPI document is made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import orjson
from flask import Blueprint, Response, current_app, request
from marshmallow import Schema, ValidationError, fields

from api import context, signature
from api.auth import CUSTOMER, STOREFRONT, Authenticator, Identity
from api.problems import INVALID, Problem
from engine.engine import Engine
from engine.values import Operation


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


ROUTES: list[Route] = []
"""Every route of the service, in the order of the contract. Filled when the views are imported."""

View = Callable[..., Answer]


def route(blueprint: Blueprint, method: str, path: str, summary: str, **kwargs: Any) -> Callable[[View], View]:
    """Make a view answer at `path` and put it into the OpenAPI document. Options: see `Route`."""
    declared = Route(method, (blueprint.url_prefix or "") + path, summary, **kwargs)
    ROUTES.append(declared)
    body_schema = declared.body() if declared.body else None
    query_schema = declared.query() if declared.query else None
    dumpers = {status: schema() for status, schema in declared.answers.items()}

    def decorate(view: View) -> View:
        @wraps(view)
        def answer(**words: str) -> Response:
            request.max_content_length = declared.most_body_bytes
            identity = _identity(declared)
            document = context.json_document(may_be_missing=declared.bodiless) if body_schema else None
            call = context.call(identity, document)
            body = _loaded(body_schema, document) if body_schema else {}
            query = _loaded(query_schema, _query(query_schema)) if query_schema else {}
            engine: Engine = current_app.extensions["stockade_engine"]
            return _dumped(view(Request(engine, call, body, query), **words), dumpers, bool(call.idempotency_key))

        blueprint.add_url_rule(path, view_func=answer, methods=[method], endpoint=view.__name__)
        return view

    return decorate


def _identity(route: Route) -> Identity | None:
    if route.signed:
        signature.check(current_app.extensions["stockade_engine"].settings.webhook_secret)
    if not route.scopes or (route.guests and "Authorization" not in request.headers):
        return None
    authenticator: Authenticator = current_app.extensions["stockade_authenticator"]
    identity = authenticator.identify(request.headers.get("Authorization", ""), request.headers.get("Stockade-User"))
    if identity.scopes.isdisjoint(route.scopes):
        raise Problem("forbidden", f"The token needs the scope {' or '.join(route.scopes)}.")
    acts_for_nobody = identity.scopes & set(route.scopes) == {STOREFRONT} and CUSTOMER in route.scopes
    if acts_for_nobody and "Stockade-User" not in request.headers:
        if route.guests:
            return None
        raise Problem("forbidden", "With the scope storefront, the header Stockade-User must say for whom.")
    return identity


def _query(schema: Schema) -> dict[str, Any]:
    """Query parameters as the schema wants them: a list where it has a list, else the last one given."""
    lists = {name for name, field in schema.fields.items() if isinstance(field, fields.List)}
    return {name: values if name in lists else values[-1] for name, values in request.args.lists()}


def _loaded(schema: Schema, document: Any) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = schema.load(document)
    except ValidationError as error:
        raise Problem("validation_failed", INVALID, errors=error.normalized_messages()) from error
    return loaded


def _dumped(answer: Answer, dumpers: Mapping[int, Schema], keyed: bool) -> Response:
    if answer.status == 204:
        empty = Response(status=204)
        del empty.headers["Content-Type"]
        return empty
    document = dumpers[answer.status].dump(answer.value)
    # Errors in a list have the index as their key.
    data = orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS)
    response = Response(data, answer.status, mimetype="application/json", headers=answer.headers)
    # Without a key the call was repeated by our own client, after a time-out.
    if answer.replayed and keyed:
        response.headers["Idempotent-Replayed"] = "true"
    return response
