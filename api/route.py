"""One statement a route: path, scopes, schemas, refusals. It guards the view, and the OpenAPI document is made from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import msgspec
import orjson
from flask import Blueprint, current_app, request
from marshmallow import Schema, ValidationError, fields
from msgspec import Struct

from api import caching, context, field_errors, paths, signature, strictness
from api.accepted import accepting
from api.auth import CUSTOMER, OPS, STOREFRONT, Authenticator, Identity
from api.incoming import Incoming
from api.outgoing import Outgoing
from api.problems import Problem, invalid_fields
from engine.engine import Engine
from engine.ids import is_reservation_id
from engine.sku_names import sku_of
from engine.values import Operation, Reservation

WORD = re.compile(r"<(\w+)>")


class Answer(Struct, frozen=True):
    """What a view returns: the value to dump with the route's schema, and what differs from a plain 200."""

    value: Any
    status: int = 200
    headers: Mapping[str, str] | None = None
    replayed: bool = False


class Request(Struct, frozen=True):
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
        words = ("operation", call.origin.actor, call.user, call.idempotency_key)
        scope = (call.guest_scope,) if call.guest_scope else ()
        return Operation(self.engine.ids.of(*words, *scope), call.fingerprint)


@dataclass(frozen=True)
class Route:
    """`scopes`: any of them will do; none: public. `guests`: no token will do, too.

    `refusals`: codes of this route beyond those every route has. `signed`: the webhook's signature stands for a token.
    `bodiless`: the body may be left out. `idempotent`: takes an Idempotency-Key. `keeps_answer`: the call has no memory of
    its own, so the answer to a key is kept here. `cached`: clients and proxies may keep the answer for a while.
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
    keeps_answer: bool = False
    guests: bool = False
    signed: bool = False
    bodiless: bool = False
    cached: bool = False
    most_body_bytes: int = 64 * 1024
    name: str = ""

    @property
    def words(self) -> list[str]:
        """Those in the path that stand for something."""
        return WORD.findall(self.path)

    @cached_property
    def acts_for_users(self) -> bool:
        """Whether a storefront names its user in a header. A batch has a user in each item."""
        return CUSTOMER in self.scopes and STOREFRONT in self.scopes

    @property
    def is_for_operators(self) -> bool:
        return list(self.scopes) == [OPS]

    @property
    def headers(self) -> frozenset[str]:
        """Our headers that it uses, as WSGI has them."""
        used = {
            strictness.USER: self.acts_for_users,
            strictness.SIGNATURE: self.signed,
            strictness.KEY: self.idempotent,
        }
        return frozenset(name for name, is_used in used.items() if is_used)

    @property
    def guest_headers(self) -> frozenset[str]:
        """Those that a caller without a user can use: guests can't be told apart, but only one knows the id of a cart."""
        return self.headers - {strictness.USER} - (frozenset() if "id" in self.words else {strictness.KEY})

    @property
    def template(self) -> str:
        """The path as OpenAPI writes it."""
        return WORD.sub(r"{\1}", self.path)

    def __str__(self) -> str:
        return f"{self.method} {self.template}"


@dataclass(frozen=True)
class Parts:
    """What every route needs, made once for an app."""

    engine: Engine
    authenticator: Authenticator


Answering = Callable[[Parts, dict[str, Any], dict[str, str]], Outgoing]
"""Answers a request, given the parts, the WSGI environment and the words in its path. Raises what `api.problems` knows."""

OF_ONE = ("/v1/reservations/", "/v1/orders/")
"""Paths whose `id` is that of a reservation."""

MAX_SHOWN = 140

NO_BODY = b"null"
"""What stands in a fingerprint for a body that there isn't."""

ROUTES: list[tuple[Route, Answering]] = []
"""Every route of the service, in the order of the contract. Filled when the views are imported."""

View = Callable[..., Answer]


def route(blueprint: Blueprint, method: str, path: str, summary: str, **kwargs: Any) -> Callable[[View], View]:
    """Make a view answer at `path` and put it into the OpenAPI document. Options: see `Route`."""
    declared = Route(method, (blueprint.url_prefix or "") + path, summary, **kwargs)

    def decorate(view: View) -> View:
        named = replace(declared, name=view.__name__)
        answer = _answering(named, view)
        ROUTES.append((named, answer))

        def answer_flask(**words: str) -> Outgoing:
            return answer(current_app.extensions["stockade"], request.environ, words)

        blueprint.add_url_rule(path, view_func=answer_flask, methods=[method], endpoint=view.__name__)
        return view

    return decorate


def require_idempotency_key(request: Request, why: str) -> None:
    """For calls that would count twice if they were repeated.

    Raises:
        Problem: `idempotency_key_required`.
    """
    if not request.call.idempotency_key:
        raise Problem("idempotency_key_required", f"{why}; send an Idempotency-Key, so that a repeat counts once.")


def _answering(route: Route, view: View) -> Answering:
    body_schema = route.body() if route.body else None
    query_schema = route.query() if route.query else None
    load_body = body_schema and _loading(body_schema)
    load_query = query_schema and _loading(query_schema)
    dumpers = {status: schema() for status, schema in route.answers.items()}
    of_one = route.path.startswith(OF_ONE)
    named, headers, guest_headers = str(route), route.headers, route.guest_headers
    parameters = (
        {name: isinstance(field, fields.List) for name, field in query_schema.fields.items()} if query_schema else {}
    )

    def answer(parts: Parts, environ: dict[str, Any], words: dict[str, str]) -> Outgoing:
        incoming, document, whole, body, query = Incoming(environ), None, NO_BODY, {}, {}
        environ["stockade.route"] = route.path
        if of_one and is_reservation_id(words.get("id", "")):
            environ["stockade.reservation_id"] = words["id"]
        identity = _identity(route, incoming, parts)
        if identity:
            environ["stockade.user"] = identity.user
        strictness.refuse_headers(incoming, headers, headers if identity else guest_headers, named)
        if environ["QUERY_STRING"] or query_schema:
            query = strictness.query(environ["QUERY_STRING"], parameters, named)
        if body_schema:
            document, whole = context.json_document(incoming, route.most_body_bytes, may_be_missing=route.bodiless)
        else:
            strictness.refuse_body(incoming, named)
        words = _words(route, words)
        call = context.call(incoming, identity, whole, _path(route, words), words.get("id", ""))
        if load_body:
            body = load_body(document)
            if is_reservation_id(body.get("reservation_id", "")):
                environ["stockade.reservation_id"] = body["reservation_id"]
        if load_query:
            query = load_query(query)
        asked = Request(parts.engine, call, body, query)

        def made() -> Outgoing:
            answered = view(asked, **words)
            if isinstance(answered.value, Reservation):
                environ["stockade.reservation_id"] = answered.value.id
            outgoing = _dumped(answered, dumpers)
            # Without a key the call was repeated by our own client, after a time-out.
            if answered.replayed and call.idempotency_key:
                outgoing.headers["Idempotent-Replayed"] = "true"
            return outgoing

        return _once(asked, made) if route.keeps_answer and call.idempotency_key else made()

    def answer_all(parts: Parts, environ: dict[str, Any], words: dict[str, str]) -> Outgoing:
        """Where who asks makes no difference, those who ask at the same moment get one answer."""
        incoming, environ["stockade.route"] = Incoming(environ), route.path
        strictness.refuse_headers(incoming, headers, headers, named)
        strictness.refuse_body(incoming, named)

        def made() -> Outgoing:
            return caching.allow(answer(parts, environ, words), parts.engine.settings.availability_max_age_seconds)

        what = environ["PATH_INFO"], environ["QUERY_STRING"]
        return caching.for_one(parts.engine.shared.once(what, made), incoming)

    return answer_all if route.cached else answer


def _identity(route: Route, incoming: Incoming, parts: Parts) -> Identity | None:
    if route.signed:
        given = incoming.header("HTTP_STOCKADE_SIGNATURE")
        signature.check(parts.engine.settings.webhook_secret, given, incoming.body(route.most_body_bytes))
    authorization = incoming.header("HTTP_AUTHORIZATION")
    if not route.scopes or (route.guests and authorization is None):
        return None
    acts_for = incoming.header(strictness.USER) if route.acts_for_users else None
    identity = parts.authenticator.identify(authorization, acts_for)
    if identity.scopes.isdisjoint(route.scopes):
        raise Problem("forbidden", f"The token needs the scope {' or '.join(route.scopes)}.")
    if acts_for is None and route.acts_for_users and identity.scopes.intersection(route.scopes) == {STOREFRONT}:
        if route.guests:
            return None
        raise Problem("forbidden", "With the scope storefront, the header Stockade-User must say for whom.")
    return identity


def _words(route: Route, given: dict[str, str]) -> dict[str, str]:
    """The words of a path, decoded, and a SKU in NFC.

    Raises:
        Problem: `not_found`, or where it would be made or wanted `validation_failed`: it can't be a SKU.
    """
    words = {name: paths.word(text) for name, text in given.items()}
    if "sku" in words:
        try:
            words["sku"] = sku_of(words["sku"])
        except ValueError as error:
            if route.method == "PUT":
                raise invalid_fields({"sku": [f"Can't be a SKU. {error}."]}) from error
            raise Problem("not_found", f"No SKU can be called {words['sku'][:MAX_SHOWN]!r}. {error}.") from error
    return words


def _path(route: Route, words: dict[str, str]) -> str:
    """What is called, however its path was written."""
    path = route.path
    for name, text in words.items():
        path = path.replace(f"<{name}>", text)
    return path


def _loading(schema: Schema) -> Callable[[Any], dict[str, Any]]:
    accept = accepting(schema)

    def load(document: Any) -> dict[str, Any]:
        try:
            loaded: dict[str, Any] = accept(document) or schema.load(document)
        except ValidationError as error:
            raise invalid_fields(field_errors.of_schema(error)) from error
        return loaded

    return load


def _once(asked: Request, answer: Callable[[], Outgoing]) -> Outgoing:
    """The first answer to the request's key, or a new one, which is kept.

    What comes here may safely be done twice, so a crash before the answer is kept, or a second request at the same moment,
    does no harm.
    """
    answers, operation = asked.engine.answers, asked.operation
    if kept := answers.find(operation):
        status, headers, text = orjson.loads(kept)
        replayed = Outgoing(status, text.encode(), "application/json", headers)
        replayed.headers["Idempotent-Replayed"] = "true"
        return replayed
    outgoing = answer()
    answers.keep(operation, orjson.dumps([outgoing.status, outgoing.headers, outgoing.body.decode()]).decode())
    return outgoing


def _dumped(answer: Answer, dumpers: Mapping[int, Schema]) -> Outgoing:
    if answer.status == 204:
        return Outgoing(204, b"")
    document = dumpers[answer.status].dump(answer.value)
    return Outgoing(answer.status, msgspec.json.encode(document), "application/json", answer.headers)
