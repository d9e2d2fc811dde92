from __future__ import annotations

from engine.engine import Engine
from engine.values import Line, Operation, Origin

OPS, ANN = Origin("ops"), Origin("ann", user="ann")


def test_a_checkout_turns_available_into_reserved_and_a_payment_into_allocated(engine: Engine) -> None:
    engine.stock.configure("a", 5, {}, OPS, Operation())
    held = engine.reservations.reserve(ANN, [Line("a", 2), Line("a", 1)], 900)
    assert engine.stock.get("a").reserved == 3
    engine.reservations.commit(held.id, OPS, "payment-1", Operation())
    sku = engine.stock.get("a")
    assert (sku.available, sku.reserved, sku.allocated, sku.on_hand) == (2, 0, 3, 5)
