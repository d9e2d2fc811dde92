"""The OpenAPI 3.1 document, made from the routes and their schemas."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from itertools import groupby
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema

from api import strictness
from api.auth import CUSTOMER, STOREFRONT
from api.fields import Timestamp
from api.problems import STATUS
from api.route import ROUTES, Route
from api.schemas import BatchItem, ProblemSchema
from engine.sku_names import MAX_SKU_LENGTH, RULE

EVERYWHERE = ("bad_request", "validation_failed", "closed", "store_unavailable")
GUARDED = ("unauthenticated", "forbidden")
WITH_WORDS_IN_PATH = ("not_found", "method_not_allowed")

VISIBLE = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}
PRINTABLE = {"type": "string", "minLength": 1, "maxLength": 255}
IN_PATH = {
    "sku": {"type": "string", "minLength": 1, "maxLength": MAX_SKU_LENGTH, "description": f"{RULE}."},
    "id": {"type": "string", "minLength": 22, "maxLength": 22, "pattern": "^[0-9A-Za-z]{22}$"},
}
"""What a word in a path looks like."""

TAGS = {
    "Stock": (("skus",), "SKUs: their counters, attributes, recounts and adjustments. For operators."),
    "Availability": (("availability",), "What buyers can have now. Public."),
    "Carts": (("carts",), "Carts never touch stock; the checkout of one makes a reservation."),
    "Reservations": (("reservations",), "A checkout's claim on stock, all lines or none, with a deadline."),
    "Payments": (("payments",), "Events of payment providers, signed."),
    "Orders": (("orders",), "Paid reservations, under the reservation's id."),
    "Operation": (
        ("selling", "audit", "overview"),
        "The global stop, the record, and how things are now. For operators.",
    ),
}
"""Each tag with the first words of its paths after /v1, and what it is about."""


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
    for name, (_, about) in TAGS.items():
        spec.tag({"name": name, "description": about})
    for route, _ in ROUTES:
        spec.path(
            path=route.template,
            operations={route.method.lower(): _operation(route, converter)},
        )
    return spec.to_dict()


def _operation(route: Route, converter: OpenAPIConverter) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "tags": [_tag(route)],
        "summary": route.summary,
        "parameters": _parameters(route, converter),
        "responses": {str(status): _answer(status, schema) for status, schema in route.answers.items()},
    }
    if route.cached:
        operation["responses"]["304"] = {"description": "The client has it already: If-None-Match names its ETag."}
    for status, codes in groupby(_refusals(route), key=STATUS.__getitem__):
        operation["responses"][str(status)] = _problem(list(codes))
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
    parameters = [_parameter("path", word, IN_PATH[word]) for word in route.words]
    if route.query:
        parameters += converter.schema2parameters(route.query(), location="query")
    if strictness.USER in route.headers:
        about = "The user for whom a token with the scope storefront acts."
        parameters.append(_parameter("header", "Stockade-User", PRINTABLE) | {"description": about})
    if strictness.KEY in route.headers:
        about = "A repeat with the same key and body gets the first answer, and changes nothing."
        guests = "" if strictness.KEY in route.guest_headers or not route.guests else " Not for guests."
        parameters.append(_parameter("header", "Idempotency-Key", VISIBLE) | {"description": about + guests})
    return parameters


def _tag(route: Route) -> str:
    word = route.path.split("/")[2]
    return next((name for name, (words, _) in TAGS.items() if word in words), word)


def _parameter(place: str, name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"in": place, "name": name, "required": place == "path", "schema": schema}


def _refusals(route: Route) -> list[str]:
    codes = [*EVERYWHERE, *route.refusals, *(WITH_WORDS_IN_PATH if route.words else ())]
    if route.scopes:
        codes += GUARDED
    if not {CUSTOMER, STOREFRONT}.isdisjoint(route.scopes):
        codes.append("too_many_requests")
    if route.signed:
        codes.append("unauthenticated")
    if route.body:
        codes.append("payload_too_large")
    return sorted(set(codes), key=lambda code: (STATUS[code], code))


def _answer(status: int, schema: type[Schema]) -> dict[str, Any]:
    if status == 204:
        return {"description": "Done; there is nothing to show."}
    return {"description": "", "content": {"application/json": {"schema": schema}}}


def _problem(codes: list[str]) -> dict[str, Any]:
    code = {"type": "object", "properties": {"code": {"enum": codes}}}
    return {
        "description": " ".join(f"`{code}`" for code in codes),
        "content": {"application/problem+json": {"schema": {"allOf": [ProblemSchema, code]}}},
    }


def _name(schema: Any) -> str:
    cls = schema if isinstance(schema, type) else type(schema)
    return cls.__name__.removesuffix("Schema")
