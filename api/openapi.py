"""The OpenAPI 3.1 document, made from the routes and their schemas."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import version
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema

from api.auth import CUSTOMER, STOREFRONT
from api.fields import Timestamp
from api.problems import STATUS
from api.route import ROUTES, Route
from api.schemas import BatchItem, ProblemSchema
from engine.limits import SKU_PATTERN

EVERYWHERE = ("bad_request", "store_unavailable")
GUARDED = ("unauthenticated", "forbidden")
WITH_BODY = ("payload_too_large", "validation_failed", "closed")
WITH_WORDS_IN_PATH = ("not_found", "method_not_allowed")

VISIBLE = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}
PRINTABLE = {"type": "string", "minLength": 1, "maxLength": 255}
IN_PATH = {
    "sku": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": f"^{SKU_PATTERN}$"},
    "id": {"type": "string", "minLength": 22, "maxLength": 22, "pattern": "^[0-9A-Za-z]{22}$"},
}
"""What a word in a path looks like."""


@cache
def document() -> dict[str, Any]:
    """One document a process: all its apps give the same one, so nobody may change it."""
    marshmallow = MarshmallowPlugin(schema_name_resolver=_name)
    spec = APISpec(
        title="Stockade",
        version=version("stockade"),
        openapi_version="3.1.0",
        info={"description": "Stock reservations for flash sales."},
        plugins=[marshmallow],
    )
    converter = marshmallow.converter
    assert converter is not None
    converter.map_to_openapi_type(Timestamp, "string", "date-time")
    spec.components.security_scheme("token", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"})
    spec.components.security_scheme(
        "signature",
        {
            "type": "apiKey",
            "in": "header",
            "name": "Stockade-Signature",
            "description": 't=<unix s>,v1=<hex HMAC-SHA256 of "{t}.{raw body}">',
        },
    )
    spec.components.schema("BatchItem", schema=BatchItem)
    for route, _ in ROUTES:
        spec.path(
            path=re.sub(r"<(\w+)>", r"{\1}", route.path),
            operations={route.method.lower(): _operation(route, converter)},
        )
    return spec.to_dict()


def _operation(route: Route, converter: OpenAPIConverter) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "parameters": _parameters(route, converter),
        "responses": {str(status): _answer(status, schema) for status, schema in route.answers.items()},
    }
    for code in _refusals(route):
        entry = operation["responses"].setdefault(str(STATUS[code]), _problem())
        entry["description"] = f"{entry['description']} `{code}`".strip()
    if route.scopes:
        operation["security"] = [{"token": []}, {}] if route.guests else [{"token": []}]
        operation["description"] = f"Scope: {' or '.join(route.scopes)}."
    if route.signed:
        operation["security"] = [{"signature": []}]
    if route.body:
        operation["requestBody"] = {
            "required": not route.bodiless,
            "content": {"application/json": {"schema": route.body}},
        }
    return operation


def _parameters(route: Route, converter: OpenAPIConverter) -> list[dict[str, Any]]:
    parameters = [_parameter("path", word, IN_PATH[word]) for word in _words(route)]
    if route.query:
        parameters += converter.schema2parameters(route.query(), location="query")
    if STOREFRONT in route.scopes:
        about = "The user for whom a token with the scope storefront acts."
        parameters.append(_parameter("header", "Stockade-User", PRINTABLE) | {"description": about})
    if route.idempotent:
        parameters.append(_parameter("header", "Idempotency-Key", VISIBLE))
    return parameters


def _parameter(place: str, name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"in": place, "name": name, "required": place == "path", "schema": schema}


def _words(route: Route) -> list[str]:
    """The words in a route's path that stand for something."""
    return re.findall(r"<(\w+)>", route.path)


def _refusals(route: Route) -> list[str]:
    codes = [*EVERYWHERE, *route.refusals, *(WITH_WORDS_IN_PATH if _words(route) else ())]
    if route.scopes:
        codes += GUARDED
    if not {CUSTOMER, STOREFRONT}.isdisjoint(route.scopes):
        codes.append("too_many_requests")
    if route.signed:
        codes.append("unauthenticated")
    if route.body:
        codes += WITH_BODY
    elif route.query:
        codes.append("validation_failed")
    if route.method not in ("GET", "HEAD"):
        codes.append("closed")
    return sorted(set(codes), key=lambda code: (STATUS[code], code))


def _answer(status: int, schema: type[Schema]) -> dict[str, Any]:
    if status == 204:
        return {"description": "Done; there is nothing to show."}
    return {"description": "", "content": {"application/json": {"schema": schema}}}


def _problem() -> dict[str, Any]:
    return {"description": "", "content": {"application/problem+json": {"schema": ProblemSchema}}}


def _name(schema: Any) -> str:
    cls = schema if isinstance(schema, type) else type(schema)
    return cls.__name__.removesuffix("Schema")
