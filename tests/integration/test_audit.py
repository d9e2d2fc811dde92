"""The audit: what happened, out of Postgres, in order, filtered there, and never a page that is short for no reason."""

from __future__ import annotations

import re

import pytest

from engine.audit import told
from engine.engine import Engine, build
from engine.errors import StoreUnavailable
from engine.ledger import Filter
from engine.levers import Pull
from engine.store import client
from engine.values import Event, Lever, Line, Operation, Origin, Reservation
from engine.writer import Writer
from tests import books
from tests.books import lines, run_out
from tests.conftest import settings

OPS, SHOP, KEEPER = Origin("ops"), Origin("till"), Origin("keeper")
ANN, BOB = Origin("ann", request_id="q1", user="ann"), Origin("bob", user="bob")
NO_KEY = Operation()


def stock(engine: Engine, sku: str, on_hand: int) -> None:
    engine.stock.configure(sku, on_hand, {}, OPS, NO_KEY)


def hold(engine: Engine, text: str, origin: Origin) -> Reservation:
    return engine.reservations.reserve(origin, lines(text), 900)


def everything(engine: Engine, wanted: Filter, limit: int) -> list[list[Event]]:
    """Every page, as a client reads them."""
    pages, after = [], ""
    while True:
        page, after = engine.audit.page(wanted, after, limit)
        pages.append(page)
        if not after:
            return pages


@pytest.fixture
def held(recorded_engine: Engine) -> list[Reservation]:
    """Holds of `a` and `b:1` by ann and bob: seq 3 to 6; the last one is released: seq 7."""
    stock(recorded_engine, "a", 9)
    stock(recorded_engine, "b:1", 9)
    made = [hold(recorded_engine, f"{sku}=1", origin) for sku in ("a", "b:1") for origin in (ANN, BOB)]
    recorded_engine.reservations.release(made[3].id, BOB)
    return made


def test_the_ledger_is_read_in_pages(recorded_engine: Engine, held: list[Reservation]) -> None:
    first, after = recorded_engine.audit.page(Filter(), "", 4)
    rest, end = recorded_engine.audit.page(Filter(), after, 100)
    assert [event.seq for event in first + rest] == [1, 2, 3, 4, 5, 6, 7]
    assert (after, end) == ("1-4", "")
    assert first + rest == books.events(recorded_engine.store)


def test_the_ledger_is_filtered_by_sku_reservation_user_and_kind(
    recorded_engine: Engine, held: list[Reservation]
) -> None:
    for wanted, seqs in (
        (Filter(sku="a"), [1, 3, 4]),
        (Filter(sku="b:1"), [2, 5, 6, 7]),
        (Filter(sku="b"), []),
        (Filter(user="bob"), [4, 6, 7]),
        (Filter(user="Bob"), []),
        (Filter(op="reserve"), [3, 4, 5, 6]),
        (Filter(reservation_id=held[3].id), [6, 7]),
        (Filter(reservation_id=held[3].id, op="release"), [7]),
        (Filter(sku="a", user="bob"), [4]),
        (Filter(sku="a", user="bob", op="release"), []),
        (Filter(sku="' OR true --"), []),
    ):
        assert [event.seq for event in recorded_engine.audit.page(wanted, "", 100)[0]] == seqs, wanted


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 100])
def test_a_page_of_few_among_many_is_full_until_the_end(recorded_engine: Engine, limit: int) -> None:
    stock(recorded_engine, "a", 900)
    stock(recorded_engine, "rare", 9)
    for number in range(60):
        hold(recorded_engine, "rare=1" if number % 15 == 14 else "a=1", ANN)
    pages = everything(recorded_engine, Filter(sku="rare"), limit)
    assert [event.seq for page in pages for event in page] == [2, 17, 32, 47, 62]
    assert all(len(page) == limit for page in pages[:-1])
    assert 0 < len(pages[-1]) <= limit


def test_pages_go_on_over_epochs(recorded_engine: Engine, held: list[Reservation]) -> None:
    engine = recorded_engine
    writer = Writer(engine.database, engine.store)
    reached = writer.drain()
    writer.close()
    assert reached.entry_id == "1-7"
    engine.scripts.close("t", "a test")
    engine.scripts.open("t", engine.store.run_id(), 2, reached, 0, "a test", {})
    stock(engine, "c", 1)
    pages = everything(engine, Filter(), 3)
    assert [f"{event.epoch}-{event.seq}" for page in pages for event in page][6:] == ["1-7", "2-8", "2-9"]
    assert [len(page) for page in pages] == [3, 3, 3]


def test_what_happened_before_the_call_is_in_its_answer(recorded_engine: Engine) -> None:
    stock(recorded_engine, "a", 50)
    for number in range(20):
        made = hold(recorded_engine, "a=1", ANN)
        [event] = recorded_engine.audit.page(Filter(reservation_id=made.id), "", 5)[0]
        assert event.seq == number + 2


def test_without_postgres_nobody_gets_a_part_for_the_whole(server: str) -> None:
    given = settings(
        server, STOCKADE_DATABASE_URL="postgresql://a@/b?host=/nowhere", STOCKADE_DATABASE_TIMEOUT_MS="100"
    )
    with pytest.raises(StoreUnavailable):
        build(given, client(given)).audit.page(Filter(), "", 5)


def test_a_story_tells_all_of_a_reservation_or_of_a_sku(recorded_engine: Engine) -> None:
    engine = recorded_engine
    engine.stock.configure("a", 9, {"name": "Shoe"}, OPS, NO_KEY)
    first, second = (hold(engine, "a=2", origin) for origin in (ANN, BOB))
    engine.reservations.commit(first.id, SHOP, "p1", NO_KEY)
    engine.orders.cancel(first.id, OPS, "broken", lines("a=1"), NO_KEY)
    run_out(engine.store, second.id)
    engine.expiry.sweep(KEEPER)
    assert engine.audit.catch_up() == ""
    story = [_without_time(told(event)) for event in engine.audit.story(first.id)]
    assert story == [
        f"1-2  {first.id} reserved a=2 for ann until TIME  by ann, request q1",
        f"1-4  {first.id} paid with p1; a=2 allocated  by till, request -",
        f"1-5  {first.id} cancelled a=1; they went back to available (broken)  by ops, request -",
    ]
    story = [_without_time(told(event)) for event in engine.audit.story("a")]
    assert story[0] == "1-1  recounted; on_hand changed by a=9 (name=Shoe)  by ops, request -"
    assert story[-1] == f"1-6  {second.id} the hold's time ran out; a=2 went back  by keeper, request -"
    assert len(story) == 6
    assert list(engine.audit.story("nothing")) == []


def test_what_an_operator_did_is_told_with_his_reason_and_what_changed(recorded_engine: Engine) -> None:
    engine, olga = recorded_engine, Origin("cli:olga", "q9")
    stock(engine, "a", 9)
    pull = Pull(olga, "wrong price", dry_run=False)
    list(engine.levers.pause(["a"], True, pull))
    engine.levers.recount("a", 7, pull)
    engine.stock.configure("a", 6, {"name": "Shoe"}, olga, NO_KEY, "wrong name", Lever.DO)
    engine.stock.configure("a", None, {"name": ""}, OPS, NO_KEY)
    held = hold(engine, "a=2", ANN) if list(engine.levers.pause(["a"], False, pull)) else None
    assert held
    list(engine.levers.release([held.id], pull))
    engine.stock.set_default_hold(60, "a rush", olga)
    engine.stock.set_default_hold(None, "over", olga)
    engine.stock.set_selling(True, "a fire", olga)
    found, _ = engine.audit.page(Filter(), "", 100)
    by_olga = "  by cli:olga, request q9"
    assert [_without_time(told(event)).partition("  ")[2] for event in found[1:]] == [
        f"changed: paused=1 (wrong price){by_olga}",
        f"recounted; on_hand changed by a=-2 (wrong price){by_olga}",
        f"recounted; on_hand changed by a=-1: name=Shoe (wrong name){by_olga}",
        "changed (name=)  by ops, request -",
        f"changed: paused= (wrong price){by_olga}",
        f"{held.id} reserved a=2 for ann until TIME  by ann, request q1",
        f"{held.id} released a=2 (wrong price){by_olga}",
        f"the default hold is 60 s (a rush){by_olga}",
        f"the default hold is the deployment's own again (over){by_olga}",
        f"selling paused (a fire){by_olga}",
    ]


def test_an_event_that_no_script_has_written_is_told_as_it_stands() -> None:
    for op, detail in (("configure", "torn ["), ("configure", "7"), ("default_hold", "²"), ("default_hold", "soon")):
        by_hand = Event(1, 1, 1, op, "eve", "", "", (Line("a", 0),), 0, "", "", "", detail)
        assert "by eve" in told(by_hand)


def test_a_story_longer_than_a_page_is_told_to_its_end(
    recorded_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.audit.MAX_TOLD", 4)
    stock(recorded_engine, "a", 50)
    for _ in range(11):
        hold(recorded_engine, "a=1", ANN)
    assert recorded_engine.audit.catch_up() == ""
    assert [event.seq for event in recorded_engine.audit.story("a")] == list(range(1, 13))


def _without_time(line: str) -> str:
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.match(time, line)
    return re.sub(time, "TIME", line).removeprefix("TIME  ")
