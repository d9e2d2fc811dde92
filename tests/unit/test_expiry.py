"""When a SKU's next units come back, as a search among the live holds finds it and remembers it."""

from __future__ import annotations

import time

import pytest

from engine.engine import Engine
from engine.expiry import NEXT_RELEASE_SECONDS, SEARCH
from engine.values import Operation, Origin, Reservation
from tests import books

OPS, ANN = Origin("ops"), Origin("ann", user="ann")


class Searches:
    """How many holds were asked for, search by search."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self._ask = engine.store.next_holds
        monkeypatch.setattr(engine.store, "next_holds", self._counted)

    def _counted(self, from_ms: int, limit: int) -> list[tuple[str, int, list[str]]]:
        self.sizes.append(limit)
        return self._ask(from_ms, limit)


def hold(engine: Engine, text: str, seconds: int = 900) -> Reservation:
    for line in books.lines(text):
        if engine.store.sku(line.sku) is None:
            engine.stock.configure(line.sku, 100, {}, OPS, Operation())
    return engine.reservations.reserve(ANN, books.lines(text), seconds)


def test_what_nobody_holds_has_no_next_release(fake_engine: Engine) -> None:
    hold(fake_engine, "b=1")
    assert fake_engine.expiry.next_releases({"a": 1}, 0) == {}


def test_a_search_is_believed_for_a_while_and_then_made_again(
    fake_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = hold(fake_engine, "a=1")
    searches = Searches(fake_engine, monkeypatch)
    now_s = time.monotonic()
    for later_s, searched in ((0.0, 1), (NEXT_RELEASE_SECONDS / 2, 1), (NEXT_RELEASE_SECONDS, 2)):
        monkeypatch.setattr(time, "monotonic", lambda later_s=later_s: now_s + later_s)
        assert fake_engine.expiry.next_releases({"a": 1}, 0) == {"a": held.deadline_ms}
        assert len(searches.sizes) == searched


def test_a_hold_that_is_gone_is_not_believed_any_more(fake_engine: Engine) -> None:
    first, second = hold(fake_engine, "a=1", 300), hold(fake_engine, "a=1")
    assert fake_engine.expiry.next_releases({"a": 1}, 0) == {"a": first.deadline_ms}
    fake_engine.reservations.release(first.id, ANN)
    assert fake_engine.expiry.next_releases({"a": 1}, 0) == {"a": second.deadline_ms}


def test_a_search_ends_with_the_page_that_has_everything(fake_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(SEARCH[0] + 1):
        hold(fake_engine, "b=1", 300)
    held = hold(fake_engine, "a=1")
    searches = Searches(fake_engine, monkeypatch)
    assert fake_engine.expiry.next_releases({"a": 1}, 0) == {"a": held.deadline_ms}
    assert searches.sizes == list(SEARCH[:2])


def test_where_all_pages_have_none_of_a_sku_the_last_deadline_stands_for_it(
    fake_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.expiry.SEARCH", (1, 2))
    last = [hold(fake_engine, "b=1", seconds) for seconds in (100, 200, 300)][1]
    hold(fake_engine, "a=1")
    searches = Searches(fake_engine, monkeypatch)
    assert fake_engine.expiry.next_releases({"a": 1}, 0) == {"a": last.deadline_ms}
    assert searches.sizes == [1, 2]


def test_a_guess_is_never_before_the_bound(fake_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.expiry.SEARCH", (1,))
    later = hold(fake_engine, "b=1", 100)
    bound_ms = later.deadline_ms + 50_000
    hold(fake_engine, "c=1", 300)
    found = fake_engine.expiry.next_releases({"b": 1, "a": bound_ms}, 0)
    assert found == {"b": later.deadline_ms, "a": bound_ms}


@pytest.mark.parametrize("known", [False, True])
def test_what_is_due_and_nobody_has_ended_yet_is_nobody_s_next_release(
    fake_engine: Engine, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """After an outage: more of it than a search looks at, all of other SKUs."""
    monkeypatch.setattr("engine.expiry.SEARCH", (1, 2))
    due = [hold(fake_engine, "b=1", seconds) for seconds in (100, 200, 300, 400)]
    held = hold(fake_engine, "a=1")
    if known:
        assert fake_engine.expiry.next_releases({"a": 1}, 0) == {"a": due[1].deadline_ms}
    assert fake_engine.expiry.next_releases({"a": 1}, due[-1].deadline_ms) == {"a": held.deadline_ms}
