"""Every refusal as application/problem+json (RFC 9457), with the engine's code in it. No traceback gets out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException

from api import field_errors
from api.outgoing import STATUS_LINES, Outgoing
from api.schemas import LineVerdictSchema
from engine.errors import EngineError, LinesUnavailable, RefundRequired, TooManyGuestCarts, ValidationFailed

STATUS: dict[str, int] = {
    "bad_request": 400,
    "idempotency_key_required": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "lines_unavailable": 409,
    "insufficient_stock": 409,
    "stock_below_claims": 409,
    "reservation_expired": 409,
    "already_committed": 409,
    "refund_required": 409,
    "payment_already_used": 409,
    "invalid_transition": 409,
    "payload_too_large": 413,
    "validation_failed": 422,
    "empty_cart": 422,
    "idempotency_key_reused": 422,
    "too_many_requests": 429,
    "internal_error": 500,
    "inconsistent": 500,
    "closed": 503,
    "store_unavailable": 503,
}
"""The HTTP status of each code."""

DETAIL: dict[str, str] = {
    "reservation_expired": "The reservation's time has run out; start a new checkout.",
    "already_committed": "The reservation is paid for; cancel the order instead.",
    "payment_already_used": "This payment_id has paid for another reservation; each payment pays for one.",
    "idempotency_key_reused": "This Idempotency-Key came before with another request; a new request needs a new key.",
    "idempotency_key_required": "This call would count twice if it were repeated; send an Idempotency-Key.",
    "too_many_requests": "This user sends too many requests; wait as long as Retry-After says.",
    "closed": "The store is closed until its stock is certified. Nothing was changed.",
    "store_unavailable": "The store can't answer now. Repeat with the same Idempotency-Key or payment_id.",
    "inconsistent": "The stock records don't agree. Nothing was changed; the operators must run stockade verify.",
    "internal_error": "Something went wrong in the service; its log has the request's X-Request-Id.",
    "method_not_allowed": "This path doesn't take this method; the header Allow has those that it takes.",
    "payload_too_large": "The body is larger than 64 KiB (1 MiB for a batch).",
    "not_found": "No route has this path; /openapi.json lists all of them.",
    "bad_request": "The request can't be understood: it isn't valid HTTP.",
}
"""What to say where nothing more is known. From 500 on this is all that is said."""

BARE: dict[str, dict[str, object]] = {
    code: {
        "type": f"urn:stockade:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": DETAIL.get(code, ""),
        "code": code,
    }
    for code, status in STATUS.items()
}
"""The document of each code."""

VERDICTS = LineVerdictSchema(many=True)

RETRY_AFTER_SECONDS = 1

MAX_CART_RETRY_AFTER_SECONDS = 60
"""A guest's cart may stop being counted long before its time has run out, because a checkout makes it a user's."""

CODE_OF_STATUS = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "payload_too_large"}

log = structlog.get_logger()


class Problem(Exception):
    """A refusal by the HTTP layer itself."""

    def __init__(self, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **extra: object) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra


def invalid_fields(errors: Mapping[str, object]) -> Problem:
    """A 422 with `errors` by field, summed up in its detail."""
    return Problem("validation_failed", field_errors.summary(errors), errors=errors)


def response(code: str, detail: str, extra: Mapping[str, object], headers: Mapping[str, str]) -> Outgoing:
    status = STATUS[code]
    # Errors in a list have the index as their key.
    body = orjson.dumps(document(code, detail, extra), option=orjson.OPT_NON_STR_KEYS)
    answer = Outgoing(status, body, "application/problem+json", headers, code)
    if status == 503:
        answer.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return answer


def on_the_wire(
    code: str,
    detail: str,
    request_id: str,
    *,
    kept: bool = False,
    has_body: bool = True,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A whole HTTP answer, without WSGI or Flask."""
    status = STATUS[code]
    body = orjson.dumps(document(code, detail, {}))
    head = (
        f"HTTP/1.1 {STATUS_LINES[status]}\r\n"
        "Content-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"X-Request-Id: {request_id}\r\n"
        "Cache-Control: no-store\r\n"
        + (f"Retry-After: {RETRY_AFTER_SECONDS}\r\n" if status == 503 else "")
        + "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        + f"Connection: {'keep-alive' if kept else 'close'}\r\n\r\n"
    )
    return head.encode() + (body if has_body else b"")


def of_engine(error: EngineError) -> dict[str, object]:
    """The document of an error that the engine raised."""
    return document(error.code, *_told(error))


def invalid(error: ValidationError) -> dict[str, object]:
    """The document of a body, or a part of one, that doesn't fit its schema."""
    errors = field_errors.of_schema(error)
    return document("validation_failed", field_errors.summary(errors), {"errors": errors})


def document(code: str, detail: str, extra: Mapping[str, object]) -> dict[str, object]:
    told = {**BARE[code], **extra}
    if detail:
        told["detail"] = detail
    return told


def of(error: Exception, request_id: str) -> Outgoing:
    """The answer to whatever went wrong. What went wrong here is logged, with the request's id."""
    if isinstance(error, Problem):
        return response(error.code, error.detail, error.extra, error.headers)
    if isinstance(error, EngineError):
        if STATUS[error.code] == 500:
            log.error("refused_by_script", code=error.code, detail=str(error), request_id=request_id)
        return response(error.code, *_told(error), _headers(error))
    if isinstance(error, HTTPException):
        return _of_werkzeug(error)
    log.error("internal_error", request_id=request_id, exc_info=error)
    return response("internal_error", "", {}, {})


def _told(error: EngineError) -> tuple[str, dict[str, Any]]:
    """What an engine's error says to the client: its detail, and members of its own."""
    extra: dict[str, Any] = {}
    if isinstance(error, LinesUnavailable):
        extra["lines"] = VERDICTS.dump(error.lines)
        if error.standing:
            extra["standing_reservation"] = error.standing
    if isinstance(error, RefundRequired):
        extra["lines"] = [asdict(line) for line in error.lines]
    if isinstance(error, ValidationFailed):
        return field_errors.summary(error.errors), {"errors": error.errors}
    return (str(error) if STATUS[error.code] < 500 else ""), extra


def _headers(error: EngineError) -> dict[str, str]:
    if isinstance(error, TooManyGuestCarts):
        wait_seconds = -(-error.wait_ms // 1000)
        return {"Retry-After": str(min(max(wait_seconds, 1), MAX_CART_RETRY_AFTER_SECONDS))}
    return {}


def _of_werkzeug(error: HTTPException) -> Outgoing:
    code = CODE_OF_STATUS.get(error.code or 500, "bad_request" if (error.code or 500) < 500 else "internal_error")
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    return response(code, DETAIL[code], {}, headers)
