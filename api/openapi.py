"""The OpenAPI 3.1 document, made from the routes and their schemas."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema, fields

from api.fields import Timestamp
from api.problems import STATUS
from api.route import ROUTES, Route

EVERYWHERE = ("bad_request", "store_unavailable")
GUARDED = ("unauthenticated", "forbidden")
WITH_BODY = ("payload_too_large", "validation_failed", "closed")


class ProblemSchema(Schema):
    """RFC 9457, with `code`, and `errors` or `lines` where they help."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    code = fields.String(required=True)
    errors = fields.Dict()
    lines = fields.List(fields.Dict())


def document() -> dict[str, Any]:
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
    for route in ROUTES:
        spec.path(
            path=re.sub(r"<(\w+)>", r"{\1}", route.path),
            operations={route.method.lower(): _operation(route, converter)},
        )
    return spec.to_dict()


def _operation(route: Route, converter: OpenAPIConverter) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "parameters": _parameters(route, converter),
        "responses": {str(status): _answer(schema) for status, schema in route.answers.items()},
    }
    for code in _refusals(route):
        entry = operation["responses"].setdefault(str(STATUS[code]), _problem())
        entry["description"] = f"{entry['description']} `{code}`".strip()
    if route.scopes:
        operation["security"] = [{"token": []}]
        operation["description"] = f"Scope: {' or '.join(route.scopes)}."
    if route.body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": route.body}}}
    return operation


def _parameters(route: Route, converter: OpenAPIConverter) -> list[dict[str, Any]]:
    parameters = [_parameter("path", word, required=True) for word in re.findall(r"<(\w+)>", route.path)]
    if route.query:
        parameters += converter.schema2parameters(route.query(), location="query")
    if route.idempotent:
        parameters.append(_parameter("header", "Idempotency-Key", required=False))
    return parameters


def _parameter(place: str, name: str, *, required: bool) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if place == "header":
        schema |= {"minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}
    return {"in": place, "name": name, "required": required, "schema": schema}


def _refusals(route: Route) -> list[str]:
    codes = [*EVERYWHERE, *route.refusals]
    if route.scopes:
        codes += GUARDED
    if route.body:
        codes += WITH_BODY
    elif route.query:
        codes.append("validation_failed")
    if route.method not in ("GET", "HEAD"):
        codes.append("closed")
    return sorted(set(codes), key=lambda code: (STATUS[code], code))


def _answer(schema: type[Schema]) -> dict[str, Any]:
    return {"description": "", "content": {"application/json": {"schema": schema}}}


def _problem() -> dict[str, Any]:
    return {"description": "", "content": {"application/problem+json": {"schema": ProblemSchema}}}


def _name(schema: Any) -> str:
    cls = schema if isinstance(schema, type) else type(schema)
    return cls.__name__.removesuffix("Schema")
