"""The console as people on call meet it: in a browser, during a sale."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest

from engine.readiness import READY
from tests.command import browser, sale
from tests.command.browser import Browser, Page
from tests.command.service import Service
from tests.waiting import wait_until

MARKUP = '<img src="x" onerror="window.touched=1"><b>ann</b>'
LONG_AGO_S = 1_000_000_000
PHONE_WIDTH = 360
NAMED = {"button", "textbox", "searchbox", "checkbox", "link", "combobox", "dialog", "table", "image", "region"}
PANEL_SHOWN = "!document.querySelector('#panel').hidden"

WORST_CONTRAST = """(() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = (text) => channels(text).slice(0, 3).map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if ((channels(colour)[3] ?? 1) === 1) return colour;
    }
    throw new Error("nothing has a background");
  };
  const found = [...document.querySelectorAll("body *")].filter((node) => node.checkVisibility()
    && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()));
  return found.map((node) => {
    const pair = [getComputedStyle(node).color, ground(node)].map(luminance).sort((a, b) => b - a);
    return [(pair[0] + 0.05) / (pair[1] + 0.05), node.textContent];
  }).sort((a, b) => a[0] - b[0]);
})()"""

WIDER_THAN_SHOWN = """[...document.querySelectorAll("body *")].filter((node) => node.checkVisibility()
  && node.getBoundingClientRect().right > innerWidth + 0.5).map((node) => node.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser.running(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture(scope="module")
def shop(service: Service) -> Iterator[Service]:
    """The service during a sale."""
    with sale.running(service):
        yield service


@pytest.fixture
def page(chromium: Browser, shop: Service) -> Iterator[Page]:
    """The console before a token was given. Whatever a test does, no script fails, and nobody else is asked for anything."""
    with chromium.page() as page:
        page.look_as(1280)
        page.open(f"http://{shop.host}:{shop.port}/console")
        yield page
        assert page.complaints() == []
        assert strangers(page, shop) == []


@pytest.fixture
def console(page: Page, shop: Service) -> Page:
    """The console of an operator."""
    give_token(page, shop.token("olga", "ops"))
    page.wait(PANEL_SHOWN)
    return page


def strangers(page: Page, service: Service) -> list[str]:
    home = f"http://{service.host}:{service.port}/"
    urls = [request["request"]["url"] for request in page.requests()]
    assert urls
    return [url for url in urls if not url.startswith((home, "data:"))]


def give_token(page: Page, token: str) -> None:
    page.fill("#token", token)
    page.click("#token-form button")


def look_up(page: Page, name: str) -> None:
    page.fill("#name", name)
    page.click("#look-up button")


def polls(page: Page) -> list[dict[str, Any]]:
    return [request for request in page.requests() if request["request"]["url"].endswith("/v1/overview")]


def overviews(page: Page) -> dict[str, Any]:
    """The answers that the page got, by their time."""
    found = {}
    ended = {event["requestId"] for event in page.told("Network.loadingFinished")}
    for poll in polls(page):
        if poll["requestId"] in ended:
            document = json.loads(page.call("Network.getResponseBody", requestId=poll["requestId"])["body"])
            found[document["as_of"]] = document
    return found


def test_the_page_needs_no_token_and_lets_the_browser_load_nothing_else(service: Service) -> None:
    answer = service.call("GET", "/console")
    assert answer.status == 200
    for name in ("", *(f"/{name}" for name in ("console.css", "console.js"))):
        headers = service.call("GET", f"/console{name}").headers
        policy = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"]
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")
        assert headers["Referrer-Policy"] == "no-referrer"
    for name in ("nothing.js", "index.html", "..%2fapp.py", "../app.py"):
        assert service.call("GET", f"/console/{name}").status == 404


def test_a_token_that_will_not_do_is_refused_with_the_reason_and_not_kept(page: Page, shop: Service) -> None:
    wanted = {
        "": "Enter a token.",
        "two words": "That is not a token.",
        "nonsense": "The token is not valid: it must be a JWT with sub, exp and scope, signed with a key of this service. "
        "Enter another one.",
        shop.token("olga", "ops", LONG_AGO_S): "The token has expired. Enter another one.",
        shop.token("ann", "customer"): "This token hasn't the scope ops, which the console needs.",
    }
    for token, words in wanted.items():
        give_token(page, token)
        page.wait(f"document.querySelector('#token-problem').textContent === {json.dumps(words)}")
        assert page.run("document.querySelector('#panel').hidden && sessionStorage.length === 0")
        assert page.run("document.activeElement.id") == "token"


def test_a_token_is_kept_for_the_tab_until_it_is_forgotten(console: Page) -> None:
    assert console.run("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
    console.call("Page.reload")
    console.wait(f"document.readyState === 'complete' && {PANEL_SHOWN}")
    console.click("#forget")
    assert console.run("[sessionStorage.length, document.querySelector('#panel').hidden]") == [0, True]
    assert console.text("#token-problem") == "The token is forgotten."


def test_the_overview_is_asked_for_once_a_second_and_one_at_a_time_and_the_focus_stays(console: Page) -> None:
    def focus(selector: str) -> None:
        """Focus something in a table: it has the focus still when the next overview is shown."""
        shown = console.run(
            f"document.querySelector('{selector}').focus(); document.querySelector('#panel').dataset.asOf"
        )
        row = console.run("document.activeElement.closest('tr').dataset.key")
        console.wait(f"document.querySelector('#panel').dataset.asOf !== {json.dumps(shown)}")
        assert console.run("document.activeElement.closest('tr')?.dataset.key") == row

    focus("#stock button")
    assert console.text("#events-note") == ""
    focus("#events button")
    assert console.text("#events-note").startswith("Held since ")
    asked = polls(console)
    assert len(asked) >= 3
    starts = [poll["timestamp"] for poll in asked]
    assert all(later - earlier > 0.9 for earlier, later in pairwise(starts))
    ended = {event["requestId"]: event["timestamp"] for event in console.told("Network.loadingFinished")}
    assert all(ended[poll["requestId"]] <= start for poll, start in zip(asked, starts[1:], strict=False))


def test_a_hidden_tab_asks_more_rarely_and_at_once_when_it_is_seen_again(console: Page) -> None:
    console.run("window.pauses = []; window.wait = window.setTimeout; "
                "window.setTimeout = (step, ms) => { pauses.push(ms); return wait(step, ms); }; 0")  # fmt: skip
    turn = "Object.defineProperty(document, 'hidden', {{value: {}, configurable: true}}); " \
           "document.dispatchEvent(new Event('visibilitychange')); 0"  # fmt: skip
    console.run(turn.format("true"))
    console.wait("pauses.at(-1) > 10000")
    console.run(turn.format("false"))
    asked = len(polls(console))
    wait_until(lambda: len(polls(console)) > asked, 5)


def test_bars_lines_and_totals_are_what_the_overview_says(console: Page) -> None:
    console.wait("document.querySelector('[data-operation=refuse] [data-what=most]').textContent !== '0'")
    shown = console.run("""({
      asOf: document.querySelector("#panel").dataset.asOf,
      totals: document.querySelector("#totals").innerText,
      stock: [...document.querySelectorAll("#stock tr:not(.heading)")].map((row) => ({
        sku: row.dataset.key,
        numbers: Object.fromEntries([...row.querySelectorAll("[data-part]")]
          .map((cell) => [cell.dataset.part, Number(cell.textContent.replaceAll(",", ""))])),
        bar: Object.fromEntries([...row.querySelectorAll("rect")].map((part) => [part.className.baseVal, part.width.baseVal.value])),
      })),
      lines: Object.fromEntries([...document.querySelectorAll("#rates polyline")].map((line) => [line.className.baseVal,
        [...line.points].map((point) => 100 - point.y)])),
      top: Number(document.querySelector("#rates-most").textContent.replace(/[,/s]/g, "")),
      events: [...document.querySelectorAll("#events tr")].map((row) => row.dataset.key),
    })""")
    overview = overviews(console)[shown["asOf"]]
    parts = ("available", "reserved", "allocated")
    assert {row["sku"] for row in shown["stock"]} == {sku["sku"] for sku in overview["skus"]}
    assert {*sale.SKUS} <= {row["sku"] for row in shown["stock"]}
    for row in shown["stock"]:
        [sku] = [sku for sku in overview["skus"] if sku["sku"] == row["sku"]]
        assert row["numbers"] == {part: sku[part] for part in (*parts, "on_hand")}
        for part in parts:
            assert row["bar"][part] == pytest.approx(sku[part] / sku["on_hand"] if sku["on_hand"] else 0, abs=1e-6)
    for verb, heights in shown["lines"].items():
        assert [height / 100 * shown["top"] for height in heights] == pytest.approx(
            overview["rates"][verb][:-1], abs=1e-3
        )
    assert shown["events"] == [f"{event['epoch']}-{event['seq']}" for event in overview["events"]]
    assert f"{overview['totals']['events']:,}" in shown["totals"]


def test_each_part_of_the_state_is_told_in_words(console: Page) -> None:
    tiles = console.run("[...document.querySelectorAll('#strip li')].map((tile) => tile.innerText.split('\\n'))")
    found = {name: (value, level) for name, value, level, *_ in tiles}
    assert [*found] == [
        *("Gate", "Keeper", "Selling", "Postgres", "Redis disk", "Redis memory", "Expiry lag", "Ledger lag", "Record"),
        *("Snapshot", "Clock", "Redis AOF", "Log"),
    ]
    assert found["Gate"] == ("open", "in order")
    assert found["Selling"] == ("going on", "in order")
    assert found["Postgres"] == ("answers", "in order")


@pytest.mark.slow
def test_everything_is_in_order_on_a_healthy_new_service_where_nothing_happens(
    chromium: Browser, start: Callable[..., Service]
) -> None:
    service = start(STOCKADE_SNAPSHOT_SECONDS="86400")
    with chromium.page() as page:
        page.open(f"http://{service.host}:{service.port}/console")
        give_token(page, service.token("olga", "ops"))
        page.wait(PANEL_SHOWN)
        for sku in ("new-1", "new-2"):
            service.call("PUT", f"/v1/skus/{sku}", {"on_hand": 3}, token=service.token("olga", "ops"))
        page.wait("document.querySelector('#totals').innerText.includes('on_hand\\n6')")
        levels = page.run("[...document.querySelectorAll('#strip li')].map((tile) => [tile.innerText, tile.className])")
        assert [tile for tile in levels if tile[1] != "fine"] == []
        assert len(levels) == 13
        assert page.run("document.title") == "Stockade console"


@pytest.mark.slow
def test_a_large_shop_shows_first_what_is_reserved_and_never_a_sku_with_nothing_reserved_among_that(
    chromium: Browser, start: Callable[..., Service]
) -> None:
    service = start()
    ops, ann = service.token("olga", "ops"), service.token("ann", "customer")
    for number in range(30):
        service.call("PUT", f"/v1/skus/many-{number:02}", {"on_hand": 9}, token=ops)
    for number in (3, 17):
        line = {"sku": f"many-{number:02}", "quantity": 1}
        assert service.call("POST", "/v1/reservations", {"lines": [line]}, token=ann).status == 201
    # Later events, of SKUs with nothing reserved.
    for number in range(20, 30):
        service.call("PUT", f"/v1/skus/many-{number:02}", {"on_hand": 8}, token=ops)
    with chromium.page() as page:
        page.open(f"http://{service.host}:{service.port}/console")
        give_token(page, ops)
        page.wait(PANEL_SHOWN)
        page.wait("document.querySelector('#totals').innerText.includes('reserved\\n2')")
        rows = page.run("[...document.querySelectorAll('#stock tr')].map((row) => row.querySelector('th').innerText)")
        assert rows[:4] == ["Most reserved", "many-03", "many-17", "Latest events, nothing reserved"]
        assert rows[4:] == sorted(rows[4:])
        assert {f"many-{number}" for number in range(20, 30)} <= {*rows[4:]}
        assert page.text("#stock-note").endswith("of 30 SKUs.")
        assert page.complaints() == []


def test_what_is_not_in_order_is_judged(page: Page) -> None:
    fine = {
        "gate": "open",
        "keeper": "here",
        "postgres": "ok",
        "record": "ok",
        "checks": READY,
        "selling": {"paused": False, "reason": ""},
        "redis": {"used_memory_bytes": 1, "max_memory_bytes": 0},
        "lag": {
            "expiry_seconds": 0,
            "ledger_events": 0,
            "ledger_seconds": 0,
            "snapshot_age_seconds": 9,
            "snapshot_lag_seconds": 0,
        },
        "intervals": {"ledger_seconds": 0.05, "snapshot_seconds": 300},
    }
    wanted: list[tuple[dict[str, Any], str, str, str]] = [
        ({"gate": "closed: the ledger: it is ahead"}, "Gate", "wrong", "the ledger: it is ahead"),
        ({"keeper": None}, "Keeper", "wrong", "none leads"),
        ({"postgres": "unavailable"}, "Postgres", "wrong", "unavailable"),
        ({"selling": {"paused": True, "reason": "a price"}}, "Selling", "look at it", "a price"),
        (
            {"redis": {"used_memory_bytes": 2048, "max_memory_bytes": 0}},
            "Redis memory",
            "in order",
            "2.0 KiB, no limit",
        ),
        ({"redis": {"used_memory_bytes": 69, "max_memory_bytes": 100}}, "Redis memory", "in order", "69 bytes of 100"),
        ({"redis": {"used_memory_bytes": 70, "max_memory_bytes": 100}}, "Redis memory", "look at it", "70 % is used"),
        ({"redis": {"used_memory_bytes": 90, "max_memory_bytes": 100}}, "Redis memory", "wrong", "90 % is used"),
        ({"checks": READY | {"redis": "disk full"}}, "Redis disk", "wrong", "full"),
        ({"checks": READY | {"clock": "Redis's is +600 s off"}}, "Clock", "look at it", "Redis's is +600 s off"),
        ({"checks": READY | {"aof": "a restart forgets"}}, "Redis AOF", "look at it", "a restart forgets"),
        ({"checks": READY | {"log": "disk full"}}, "Log", "look at it", "disk full"),
        ({"postgres": "disk full"}, "Postgres", "wrong", "disk full"),
        ({"record": "damaged: SKU a is only in Redis"}, "Record", "wrong", "SKU a is only in Redis"),
        ({"record": "unchecked for 20 s"}, "Record", "look at it", "unchecked for 20 s"),
        ({"lag": {"expiry_seconds": 0.4}}, "Expiry lag", "in order", "0.4 s"),
        ({"lag": {"expiry_seconds": 0.5}}, "Expiry lag", "look at it", "0.5 s"),
        ({"lag": {"expiry_seconds": 5}}, "Expiry lag", "wrong", "5 s"),
        ({"lag": {"ledger_events": 20000}}, "Ledger lag", "look at it", "20,000 events"),
        ({"lag": {"ledger_events": 9, "ledger_seconds": 75.5}}, "Ledger lag", "wrong", "9 events, 75 s"),
        ({"lag": {"ledger_events": None, "ledger_seconds": None}}, "Ledger lag", "look at it", "unknown"),
        ({"lag": {"snapshot_lag_seconds": 900}}, "Snapshot", "look at it", "Events have waited for one for 15 min."),
        ({"lag": {"snapshot_lag_seconds": 90000}}, "Snapshot", "wrong", "Events have waited for one for 25 h 0 min."),
        ({"lag": {"snapshot_lag_seconds": None}}, "Snapshot", "look at it", "unknown"),
        # Of a new service, of one where nothing has happened for a day, and of one that was told to be slower.
        ({"lag": {"snapshot_age_seconds": None}}, "Snapshot", "in order", "none yet"),
        ({"lag": {"snapshot_age_seconds": None, "snapshot_lag_seconds": 299}}, "Snapshot", "in order", "none yet"),
        ({"lag": {"snapshot_age_seconds": 90000}}, "Snapshot", "in order", "25 h 0 min old"),
        (
            {"lag": {"snapshot_lag_seconds": 5000}, "intervals": {"ledger_seconds": 0.05, "snapshot_seconds": 3600}},
            "Snapshot",
            "in order",
            "9 s old",
        ),
        (
            {"lag": {"ledger_seconds": 9}, "intervals": {"ledger_seconds": 10, "snapshot_seconds": 300}},
            "Ledger lag",
            "in order",
            "0 events, 9 s",
        ),
    ]
    cases = [fine | change | {"lag": fine["lag"] | change.get("lag", {})} for change, *_ in wanted]
    judged = page.run(f"import('/console/strip.js').then(({{readings}}) => {json.dumps(cases)}.map(readings))")
    for found, (_, name, level, words) in zip(judged, wanted, strict=True):
        [reading] = [reading for reading in found if reading["name"] == name]
        assert reading["level"] == level
        assert words in f"{reading['value']} {reading['why']}"
        assert {other["level"] for other in found if other["name"] != name} == {"in order"}


def test_a_sku_and_a_reservation_tell_their_stories(console: Page, shop: Service) -> None:
    ops, ann = shop.token("olga", "ops"), shop.token(MARKUP, "customer")
    shop.call("PUT", "/v1/skus/console-story", {"on_hand": 5, "name": "<b>Story</b>"}, token=ops)
    body = {"lines": [{"sku": "console-story", "quantity": 2}]}
    held = shop.call("POST", "/v1/reservations", body, token=ann).document["id"]
    shop.call("DELETE", f"/v1/reservations/{held}", token=ann)
    look_up(console, "console-story")
    console.wait("document.querySelectorAll('#story li').length === 3")
    assert console.text("#found") == "3 events, newest last."
    story = console.text("#story")
    assert [story.index(op) for op in ("recount", "reserve", "release")] == sorted(
        map(story.index, ("recount", "reserve", "release"))
    )
    assert "<b>Story</b>" in console.text("#sku")
    assert "available\n5" in console.text("#sku")
    look_up(console, held)
    console.wait("document.querySelectorAll('#story li').length === 2")
    assert f"reserve 2 \u00d7 console-story · by {MARKUP} · {held}" in console.text("#story")
    assert console.run("[document.querySelectorAll('img, b').length, window.touched]") == [0, None]


def test_a_sku_of_any_alphabet_is_looked_up(console: Page, shop: Service) -> None:
    ops = shop.token("olga", "ops")
    for sku in ("Console Shirt/XL", "console 100% #1?größe=42&a+b"):
        shop.call("PUT", f"/v1/skus/{quote(sku, safe='')}", {"on_hand": 5}, token=ops)
        look_up(console, unicodedata.normalize("NFD", sku))
        console.wait("document.querySelectorAll('#story li').length === 1")
        assert f"SKU\n{sku}" in console.text("#sku")
        look_up(console, "console-unknown")
        console.wait("document.querySelectorAll('#story li').length === 0")


def test_a_long_story_is_paged_and_its_end_can_be_reached_at_once(console: Page, shop: Service) -> None:
    ops = shop.token("olga", "ops")
    shop.call("PUT", "/v1/skus/console-long", {"on_hand": 1}, token=ops)
    for turn in range(120):
        shop.call("POST", "/v1/skus/console-long/adjustments", {"delta": 1, "reason": f"box {turn}"}, token=ops)
    look_up(console, "console-long")
    console.wait("document.querySelectorAll('#story li').length === 100")
    assert console.text("#found") == "The first 100 events; there are later ones."
    console.click("#next-page")
    console.wait("document.querySelectorAll('#story li').length === 121")
    assert console.run("document.querySelector('#more').hidden")
    look_up(console, "console-long")
    console.wait("document.querySelector('#found').textContent.startsWith('The first')")
    console.click("#to-latest")
    console.wait("document.querySelector('#found').textContent.startsWith('The latest 100')")
    assert console.run("document.querySelector('#story').lastElementChild.innerText").endswith("box 119")


def test_what_cannot_be_found_is_said_in_words(console: Page) -> None:
    wanted = {
        "": "Enter a SKU or a reservation id.",
        "no  such": "No SKU can be called that: 1 to 128 visible characters, with single spaces between them.",
        "..": "No SKU can be called that: 1 to 128 visible characters, with single spaces between them.",
        "console-unknown": "Nothing is known of console-unknown, as a SKU or as a reservation.",
        "A" * 22: f"Nothing is known of {'A' * 22}, as a SKU or as a reservation.",
    }
    for name, words in wanted.items():
        look_up(console, name)
        console.wait(f"document.querySelector('#found').textContent === {json.dumps(words)}")


def test_a_record_that_cannot_be_read_is_said_in_words(console: Page) -> None:
    console.call("Fetch.enable", patterns=[{"urlPattern": "*/v1/audit*"}])
    look_up(console, "console-1")
    [paused] = wait_until(lambda: console.told("Fetch.requestPaused"))
    problem = "eyJjb2RlIjogInN0b3JlX3VuYXZhaWxhYmxlIn0="
    console.call("Fetch.fulfillRequest", requestId=paused["requestId"], responseCode=503, body=problem)
    console.wait("document.querySelector('#found').textContent.startsWith(\"The record can't be read now\")")
    assert "on_hand" in console.text("#sku")


def test_selling_is_paused_and_resumed_with_a_reason_and_a_second_question(console: Page, shop: Service) -> None:
    ops = shop.token("olga", "ops")
    try:
        console.click("#selling")
        console.fill("#reason", "   ")
        console.click("#stop-ask [type=submit]")
        assert console.text("#reason-problem") == "A reason is needed: it goes into the record."
        assert console.run("document.querySelector('#stop-confirm').hidden")
        console.fill("#reason", MARKUP)
        console.click("#stop-ask [type=submit]")
        assert MARKUP in console.text("#stop-question")
        assert shop.call("GET", "/v1/selling", token=ops).document["paused"] is False
        console.click("#stop-do")
        console.wait("document.querySelector('#strip').innerText.includes('paused')")
        assert shop.call("GET", "/v1/selling", token=ops).document == {"paused": True, "reason": MARKUP}
        console.wait(f"document.querySelector('#strip').innerText.includes({json.dumps(MARKUP)})")
        console.wait(f"document.querySelector('#events').innerText.includes({json.dumps(MARKUP)})")
        *_, stopped = shop.call("GET", "/v1/audit?op=pause", token=ops).document["items"]
        assert (stopped["reason"], stopped["actor"]) == (MARKUP, "olga")
        assert console.text("#selling") == "Resume selling…"
        console.click("#selling")
        console.fill("#reason", "it is mended")
        console.click("#stop-ask [type=submit]")
        console.click("#stop-do")
        console.wait("document.querySelector('#selling').textContent.startsWith('Pause')")
        assert shop.call("GET", "/v1/selling", token=ops).document == {"paused": False, "reason": "it is mended"}
        assert console.run("[document.querySelectorAll('img, b').length, window.touched]") == [0, None]
    finally:
        shop.call("PUT", "/v1/selling", {"paused": False, "reason": "the test is over"}, token=ops)


def test_a_service_that_is_away_makes_the_page_stale_and_its_return_live(console: Page) -> None:
    offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    console.call("Network.emulateNetworkConditions", offline=True, **offline)
    console.wait("document.querySelector('#away-words').textContent.startsWith('Stale since ')")
    assert "No answer" in console.text("#away-words")
    assert console.text("#freshness") == "not live"
    console.call("Network.emulateNetworkConditions", offline=False, **offline)
    console.click("#try-now")
    console.wait("document.querySelector('#away').hidden")
    assert console.text("#freshness").startswith("live, as of ")


def test_the_whole_way_can_be_gone_with_the_keyboard(page: Page, shop: Service) -> None:
    def go_to(element_id: str, *, back: bool = False) -> None:
        for _ in range(80):
            if page.run("document.activeElement.id") == element_id:
                assert page.run("document.activeElement.matches(':focus-visible')")
                assert page.run("getComputedStyle(document.activeElement).outline").endswith("solid 2px")
                return
            page.press("Tab", shift=back)
        raise AssertionError(f"Tab does not lead to {element_id}")

    assert page.run("document.activeElement.id") == "token"
    page.call("Input.insertText", text=shop.token("olga", "ops"))
    page.press("Enter")
    page.wait(PANEL_SHOWN)
    go_to("name")
    page.call("Input.insertText", text="console-1")
    page.press("Enter")
    page.wait("document.querySelectorAll('#story li').length > 0")
    go_to("selling", back=True)
    page.press("Enter")
    assert page.run("document.activeElement.id") == "reason"
    page.press("Enter")
    assert page.run("[document.activeElement.id, document.querySelector('#stop').open]") == ["reason", True]
    page.call("Input.insertText", text="nothing is wrong")
    page.press("Enter")
    assert page.run("document.activeElement.id") == "stop-question"
    go_to("stop-do")
    page.press("Escape")
    assert page.run("[document.activeElement.id, document.querySelector('#stop').open]") == ["selling", False]
    assert shop.call("GET", "/v1/selling", token=shop.token("olga", "ops")).document["paused"] is False


def test_every_control_has_a_name_and_tables_stay_tables_on_a_phone(console: Page) -> None:
    for width in (1280, PHONE_WIDTH):
        console.look_as(width)
        nodes = [node for node in console.call("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
        named = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes]
        assert [role for role, name in named if role in NAMED and not name.strip()] == []
        roles = [role for role, _ in named]
        assert {"banner", "main", "search", "table", "image", "columnheader", "rowheader", "cell"} <= {*roles}
        assert ("searchbox", "SKU or reservation id") in named
        assert ("table", "Stock") in named
        assert ("table", "Latest events") in named
        assert roles.count("row") > len(sale.SKUS) + 10
        [chart] = [name for role, name in named if role == "image"]
        assert all(verb in chart for verb in ("reserve", "refuse", "commit", "release", "expire"))


def test_text_can_be_read_by_day_and_night_and_a_phone_need_not_scroll_sideways(console: Page) -> None:
    look_up(console, "console-1")
    console.wait("document.querySelectorAll('#story li').length > 0")
    for width, dark in ((1280, False), (1280, True), (PHONE_WIDTH, False), (PHONE_WIDTH, True)):
        console.look_as(width, dark=dark)
        ground = console.run("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(18, 21, 24)") == dark
        for state in ("", "document.querySelector('#selling').click()"):
            console.run(f"{state}; 0")
            ratio, text = console.run(WORST_CONTRAST)[0]
            assert ratio >= 4.5, text
            assert console.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
            assert console.run(WIDER_THAN_SHOWN) == []
        console.click("#stop .cancel")


def test_the_watch_on_the_policy_sees_what_it_forbids(chromium: Browser, shop: Service) -> None:
    with chromium.page() as page:
        page.open(f"http://{shop.host}:{shop.port}/console")
        assert page.complaints() == []
        page.run("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/stranger.png'})); 0")
        wait_until(page.complaints)
        failure = page.call("Runtime.evaluate", expression="document.body.innerHTML = '<b>x</b>'")
        assert "TrustedHTML" in failure["exceptionDetails"]["exception"]["description"]
