"""What Redis holds is put on record, whatever that is: the ledger can be read behind it, and no order is given up."""

from __future__ import annotations

import pytest

from engine import damage, ledger
from engine import repair as repairing
from engine.errors import ConfigurationError
from engine.ledger import Position
from tests.integration.shops import History, Shop, one_kind
from tests.integration.test_repair import (
    BY,
    adoption,
    anew,
    change,
    every_fourth_row,
    gone_on,
    old_rows,
    part_of_the_stream,
    repair,
    trimmed,
    written,
)

pytestmark = one_kind


def lost(shop: Shop) -> None:
    """A gap that nobody has settled yet."""
    history = History(shop, 3).begin().go_on(120)
    old_rows(shop, history)
    mending = repair(shop)
    mending.accept(mending.losses(mending.mend(mending.look())), BY)


def test_a_sku_that_redis_has_no_more_can_be_made_again(shop: Shop) -> None:
    lost(shop)
    shop.redis.delete(shop.engine.store.keys.sku("b"), shop.engine.store.keys.buyers("b"))
    adoption(shop).settle(BY)
    shop.stock("b", 10)
    written(shop)
    anew(shop)
    written(shop)
    assert not [text for text in shop.problems() if text.startswith(("fold", "ledger"))]


def test_bytes_that_are_no_text_are_adopted_as_they_are_shown(shop: Shop) -> None:
    lost(shop)
    shop.redis.hset(shop.engine.store.keys.sku("a"), "name", b'\xff\\xff "\xc3\xbc"')
    adoption(shop).settle(BY)
    written(shop)
    assert shop.problems() == ()


@pytest.mark.parametrize(("field", "value"), [("available", None), ("available", "many")])
def test_a_sku_that_cant_be_read_is_not_adopted(shop: Shop, field: str, value: str | None) -> None:
    lost(shop)
    key = shop.engine.store.keys.sku("a")
    if value is None:
        shop.redis.hdel(key, field)
    else:
        shop.redis.hset(key, field, value)
    with pytest.raises(ConfigurationError, match="can't be read"):
        adoption(shop).settle(BY)


def test_a_count_that_cant_be_read_is_not_adopted(shop: Shop) -> None:
    lost(shop)
    shop.redis.hset(shop.engine.store.keys.buyers("a"), "zoe", "many")
    with pytest.raises(ConfigurationError, match="can't be read"):
        adoption(shop).settle(BY)


def test_a_count_that_redis_has_no_more_is_gone_from_the_projections(shop: Shop) -> None:
    lost(shop)
    shop.hold("zoe")
    written(shop)
    shop.redis.hdel(shop.engine.store.keys.buyers("a"), "zoe")
    adoption(shop).settle(BY)
    assert shop.query("SELECT * FROM buyers WHERE user_name = 'zoe'") == []


def test_an_open_order_that_redis_has_no_more_comes_back(shop: Shop) -> None:
    lost(shop)
    shop.stock("a", 100)
    held = shop.hold("zoe")
    shop.pay(held)
    written(shop)
    key = shop.engine.store.keys.reservation(held)
    shop.redis.delete(key)
    adoption(shop).settle(BY)
    assert shop.redis.hget(key, "state") == "committed"
    assert shop.redis.pttl(key) == -1
    assert shop.engine.orders.get(held, None).state == "allocated"
    assert shop.problems() == ()


def test_giving_up_redis_without_a_ledger_is_refused(shop: Shop) -> None:
    shop.stock("a", 5)
    with pytest.raises(ConfigurationError, match="empty"):
        repair(shop).give_up_redis()
    assert shop.engine.stock.get("a").on_hand == 5


def test_an_event_that_nobody_can_read_doesnt_keep_the_shop_shut(shop: Shop) -> None:
    History(shop, 3).begin().go_on(40)
    keys = shop.engine.store.keys
    for fields in (
        {"op": "adopt", "lines": "a=0", "detail": "[no json"},
        {"op": "cancel", "detail": "nonsense", "reservation_id": "nobody", "lines": "a=1"},
        {"op": "recount", "lines": ""},
        {"op": "configure", "lines": "a=0", "detail": "7"},
    ):
        seq = shop.redis.hincrby(keys.meta, "seq", 1)
        shop.add(seq, counted="*", **fields)
    gone_on(shop)
    assert shop.problems() == ()
    anew(shop)
    written(shop)
    assert shop.problems() == ()


def test_projections_that_are_ahead_of_the_ledger_are_followed(shop: Shop) -> None:
    """Of Postgres only the ledger was brought back from an archive, and Redis is empty."""
    History(shop, 3).begin().go_on(60)
    end = written(shop)
    shop.stock("a", 100)
    held = shop.hold("zoe")
    shop.pay(held)
    written(shop)
    change(shop, f"DELETE FROM ledger WHERE seq > {end}")
    query = f"SELECT epoch, seq, payload_hash, chain_hash FROM ledger WHERE seq = {end}"
    change(shop, f"UPDATE ledger_position SET (epoch, seq, payload_hash, chain_hash) = ({query})")
    shop.redis.flushall()
    gone_on(shop)
    assert shop.engine.orders.get(held, None).state == "allocated"
    assert shop.problems() == ()


def test_a_position_that_is_gone_comes_back(shop: Shop) -> None:
    History(shop, 3).begin().go_on(60)
    written(shop)
    trimmed(shop)
    change(shop, "DELETE FROM ledger_position")
    shop.writer.close()
    gone_on(shop)
    assert shop.problems() == ()


def test_projections_dont_go_back_with_the_ledgers_position(shop: Shop) -> None:
    """They would fold the same events a second time."""
    History(shop, 3).begin().go_on(60)
    end = written(shop)
    before = shop.query("SELECT sku, record FROM skus ORDER BY sku")
    change(shop, "UPDATE ledger_position SET (epoch, seq, payload_hash, chain_hash) = (0, 0, '', '')")
    shop.recovery.projection.advance()
    gone_on(shop)
    assert shop.position().seq >= end
    assert shop.query("SELECT sku, record FROM skus ORDER BY sku") == before
    assert shop.problems() == ()


def test_a_position_that_is_gone_is_set_though_the_stream_goes_on_behind_a_hole(shop: Shop) -> None:
    History(shop, 3).begin().go_on(60)
    written(shop)
    shop.stock("a", 7)
    shop.stock("a", 8)
    trimmed(shop, 1)
    change(shop, "DELETE FROM ledger_position")
    gone_on(shop)
    assert shop.problems() == ()


def test_rows_of_nobody_beyond_the_position_are_taken_out_while_the_shop_sells(shop: Shop) -> None:
    History(shop, 3).begin().go_on(60)
    end = written(shop)
    for units in range(5):
        shop.stock("a", 100 + units)
    change(
        shop,
        f"CREATE TEMP TABLE copied AS SELECT * FROM ledger WHERE seq = {end}; "
        f"UPDATE copied SET seq = {end + 3}; INSERT INTO ledger SELECT * FROM copied",
    )
    assert gone_on(shop)[0] == []
    assert shop.problems() == ()


def test_rows_beyond_the_position_are_kept_where_nobody_else_has_them(shop: Shop) -> None:
    History(shop, 3).begin().go_on(60)
    end = written(shop)
    shop.stock("a", 100)
    held = shop.hold("zoe")
    shop.pay(held)
    written(shop)
    shop.redis.flushall()
    change(shop, f"DELETE FROM ledger WHERE seq = {end + 1}")
    query = f"SELECT epoch, seq, payload_hash, chain_hash FROM ledger WHERE seq = {end}"
    change(shop, f"UPDATE ledger_position SET (epoch, seq, payload_hash, chain_hash) = ({query})")
    anew(shop)
    gone_on(shop)
    assert shop.engine.orders.get(held, None).state == "allocated"
    assert shop.problems() == ()


def test_a_short_ledger_with_a_gap_at_its_beginning_is_not_damaged(shop: Shop) -> None:
    shop.stock("a", 5)
    shop.stock("a", 6)
    written(shop)
    trimmed(shop, 1)
    change(shop, "DELETE FROM ledger WHERE seq = 1")
    gone_on(shop)
    with shop.engine.database.connect() as connection:
        assert damage.page(connection, "p0", Position(), Position()) == (Position(), [], False)


def test_no_row_that_stayed_in_a_gap_is_where_damage_begins(shop: Shop) -> None:
    part_of_the_stream(shop, History(shop, 3).begin().go_on(20))
    gone_on(shop)
    with shop.engine.database.connect() as connection:
        for epoch, seq in shop.rows():
            upto = ledger.at(connection, "p0", epoch, seq)
            assert damage.page(connection, "p0", Position(), upto) == (upto, [], False)


def test_a_gap_may_follow_a_gap(shop: Shop) -> None:
    """The newest rows are lost, and so is what Redis had more."""
    History(shop, 3).begin().go_on(60)
    end = written(shop)
    shop.stock("a", 100)
    held = shop.hold("zoe")
    trimmed(shop, 1)
    change(shop, f"DELETE FROM ledger WHERE seq > {end - 10}")
    shop.redis.delete(shop.engine.store.keys.ledger)
    accepted, _ = gone_on(shop)
    assert len(accepted) == 2
    assert shop.engine.reservations.get(held, None).user == "zoe"
    assert shop.problems() == ()


def test_many_places_are_one_gap(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repairing, "MAX_GAPS", 5)
    every_fourth_row(shop, History(shop, 3).begin().go_on(120))
    kept = len(shop.rows())
    assert len(gone_on(shop)[0]) == 1
    assert len(shop.rows()) > kept
    assert shop.problems() == ()


def test_two_repairs_that_adopt_the_same_leave_nothing_to_complain_of(shop: Shop) -> None:
    """The second one's events are behind the one with which the gap was settled."""
    lost(shop)
    shop.stock("a", 100)
    held = shop.hold("zoe")
    adoption(shop).settle(BY)
    for kind, name in (("sku", "a"), ("reservation", held)):
        shop.engine.scripts.adopt(kind, name, (), BY.actor, BY.reason)
    shop.pay(held)
    written(shop)
    assert shop.problems() == ()
