"""Requests out of the OpenAPI document, sent to a real service by schemathesis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import load_all_checks
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    unsupported_method,
)

SIGN_IT = "sign it"

load_all_checks()
EXCEPT = [positive_data_acceptance]
"""To JSON Schema 1.0 is an integer, and a name may have control characters; to the API neither is so."""

EXCEPT_FOR_BATCH = [*EXCEPT, negative_data_rejection, allow_header_conformance, unsupported_method]
"""A batch refuses its bad items, not the whole. Its path has also the methods of a reservation whose id is `batch`."""


def excepted(case: Any) -> list[Any]:
    return EXCEPT_FOR_BATCH if case.operation.path.endswith("/batch") else EXCEPT


def aim(case: Any, things: Mapping[str, str], sku: str) -> None:
    """Turn a request to things that are there: their ids by the word in the path before them."""
    (case.headers or {}).pop("Stockade-User", None)
    words = case.operation.path.split("/")
    for name in case.path_parameters or {}:
        case.path_parameters[name] = sku if name == "sku" else things[words[2]]
    body = case.body if isinstance(case.body, dict) else {}
    for line in body.get("lines", []):
        line |= {"sku": sku, "quantity": 1}
    if words[-1] == "webhook":
        body |= {"reservation_id": things["reservations"]}
        case.headers["Stockade-Signature"] = SIGN_IT


class Operations:
    """Every operation of the document at `url`. What is found wrong goes to `note`, each answer to `see`."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        sign: Callable[[bytes], str],
        see: Callable[[Any], None],
        note: Callable[[str], None],
    ) -> None:
        self._schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        results: Any = self._schema.get_all_operations()
        self._operations = [result.ok() for result in results]
        self._headers = dict(headers)
        self._sign = sign
        self._see = see
        self._note = note

    def fuzz(self, number: int, examples: int, things: Mapping[str, str], pick: Random) -> int:
        """Send `examples` requests to each operation, about half of them to what is there. Returns: how many were sent."""
        sent = 0

        def send(case: Any) -> None:
            nonlocal sent
            if pick.random() < 0.5:
                aim(case, things, "fuzz")
            # An id that others have used would say of their events that they are of a refused request.
            own = {name: value for name, value in (case.headers or {}).items() if name.lower() != "x-request-id"}
            case.headers = type(case.headers)(own) if case.headers is not None else None
            sent += 1
            try:
                answer = case.call(session=session, headers=self._headers, timeout=30)
                self._see(answer)
                case.validate_response(answer, excluded_checks=excepted(case))
            except (Exception, FailureGroup) as error:
                # Not raised: Hypothesis would send it again, to a service that has changed since.
                self._note(
                    f"{case.operation.label}: {type(error).__name__}: {error} {getattr(error, 'exceptions', '')}"
                )

        how = settings(
            max_examples=examples,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        with requests.Session() as session:
            session.auth = self._signing
            for operation in self._operations:
                seed(number)(how(given(case=operation.as_strategy())(send)))()
        return sent

    def _signing(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if request.headers.get("Stockade-Signature") == SIGN_IT:
            body = request.body or b""
            request.headers["Stockade-Signature"] = self._sign(body.encode() if isinstance(body, str) else body)
        return request
