from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.problems import STATUS
from tests.api.calling import Caller, answered, bearer, signature, token

METHODS = {"get", "put", "post", "delete", "patch"}


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    return answered(client.get("/openapi.json"))


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS & set(item):
            yield method.upper(), path, item[method]


def everything_in(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of a document, however deep."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
        yield from everything_in(inner)


def test_the_document_has_what_openapi_3_1_asks_for(document: dict[str, Any]) -> None:
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"]["title"]
    assert document["info"]["version"]
    for method, path, operation in operations(document):
        assert operation["summary"], (method, path)
        assert operation["responses"]
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[2-5]\d\d", status)
            assert isinstance(response["description"], str)
            if status in ("204", "304"):
                assert "content" not in response
                continue
            (media_type,) = response["content"]
            assert media_type == ("application/json" if status < "300" else "application/problem+json")
        in_path = {part["name"] for part in operation.get("parameters", []) if part["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))
        assert all(part["required"] for part in operation.get("parameters", []) if part["in"] == "path")
        assert len({(part["in"], part["name"]) for part in operation["parameters"]}) == len(operation["parameters"])


def test_every_operation_has_a_name_of_its_own_and_a_tag_that_is_described(document: dict[str, Any]) -> None:
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)+", name) for name in names)
    assert {"create_reservation", "get_availability", "list_availability"} <= set(names)
    used = {tag for _, _, operation in operations(document) for tag in operation["tags"]}
    assert used == set(tags)
    assert all(tags.values())


def test_the_document_uses_no_word_that_openapi_3_1_dropped(document: dict[str, Any]) -> None:
    for value in everything_in(document["components"]["schemas"]):
        assert "nullable" not in value
        assert not isinstance(value.get("exclusiveMinimum"), bool)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = {value["$ref"] for value in everything_in(document) if isinstance(value.get("$ref"), str)}
    assert references
    for reference in references:
        found: Any = document
        assert reference.startswith("#/")
        for word in reference.removeprefix("#/").split("/"):
            found = found[word]
        assert found


def test_the_document_has_exactly_the_routes_of_the_app(client: FlaskClient, document: dict[str, Any]) -> None:
    served = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in client.application.url_map.iter_rules()
        if rule.rule.startswith("/v1")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert served == {(method, path) for method, path, _ in operations(document)}
    assert ("POST", "/v1/reservations") in served


def test_every_refusal_in_the_document_is_a_known_code_under_its_status(document: dict[str, Any]) -> None:
    documented: set[str] = set()
    for method, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if status < "400":
                continue
            codes = re.findall(r"`(\w+)`", response["description"])
            assert codes, (method, path, status)
            documented.update(codes)
            typed = response["content"]["application/problem+json"]["schema"]["allOf"][1]
            assert typed["properties"]["code"]["enum"] == codes
            for code in codes:
                assert STATUS[code] == int(status), (method, path, code)
    nowhere = {"internal_error", "inconsistent"}
    assert documented == STATUS.keys() - nowhere


def test_a_token_or_a_signature_is_asked_for_exactly_where_it_is_needed(
    client: FlaskClient, document: dict[str, Any]
) -> None:
    schemes = document["components"]["securitySchemes"]
    assert schemes["token"]["scheme"] == "bearer"
    assert (schemes["signature"]["in"], schemes["signature"]["name"]) == ("header", "Stockade-Signature")
    for method, path, operation in operations(document):
        security = operation.get("security", [{}])
        response = client.open(re.sub(r"{\w+}", "x", path), method=method)
        assert ({} not in security) == (response.status_code == 401), (method, path)
        signed = path == "/v1/payments/webhook"
        assert ({"signature": []} in security) == signed
        assert ({"token": []} in security) == ("401" in operation["responses"] and not signed)


def test_an_idempotency_key_is_documented_on_every_call_that_changes_state_but_the_webhook(
    document: dict[str, Any],
) -> None:
    for method, path, operation in operations(document):
        headers = {part["name"] for part in operation["parameters"] if part["in"] == "header"}
        changes = method != "GET" and path != "/v1/payments/webhook"
        assert ("Idempotency-Key" in headers) == changes, (method, path)


def test_a_user_can_be_named_exactly_where_a_storefront_may_act(client: FlaskClient, document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        headers = {part["name"] for part in operation["parameters"] if part["in"] == "header"}
        named = Caller(client, bearer(token("shop", "storefront")) | {"Stockade-User": "ann"})
        response = named.send(method, re.sub(r"{\w+}", "x", path))
        opened = "401" in operation["responses"] and not (
            response.status_code in (401, 403) or "Stockade-User" in response.text
        )
        assert ("Stockade-User" in headers) == opened, (method, path)


def test_a_body_is_asked_for_exactly_where_it_may_not_be_left_out(
    client: FlaskClient, document: dict[str, Any]
) -> None:
    everything = Caller(client, bearer(token("anybody", "customer storefront payments ops")))
    for method, path, operation in operations(document):
        body = operation.get("requestBody", {"required": False})
        signed = {"Stockade-Signature": signature(b"")} if path == "/v1/payments/webhook" else {}
        response = everything.send(method, re.sub(r"{\w+}", "x", path), headers=signed)
        assert body["required"] == (response.status_code == 400), (method, path)


class Assets(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("link", "script", "img", "iframe"):
            self.found += [value for name, value in attrs if name in ("href", "src") and value]


def test_the_docs_page_and_its_assets_come_from_here(client: FlaskClient) -> None:
    page = client.get("/docs", follow_redirects=True)
    assert page.status_code == 200
    assert page.mimetype == "text/html"
    assert "/openapi.json" in page.text
    assets = Assets()
    assets.feed(page.text)
    assert len(assets.found) >= 3
    for address in assets.found:
        assert not re.match(r"(\w+:)?//", address), address
        with client.get(address) as response:
            assert response.status_code == 200, address
            assert response.data
            if response.mimetype == "text/css":
                assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", response.get_data(as_text=True))
    assert not re.search(r"https?://(?!localhost)", re.sub(r"<!--.*?-->", "", page.text, flags=re.DOTALL))


def test_an_unknown_asset_is_not_found(client: FlaskClient) -> None:
    for path in ("/docs/nothing.js", "/docs/..%2f..%2f__init__.py", "/docs/%2e%2e/swagger_ui.py"):
        assert client.get(path).status_code == 404
