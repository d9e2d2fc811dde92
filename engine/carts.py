"""Carts: what a buyer would like to have. They never touch stock; a checkout makes a reservation of them."""

from __future__ import annotations

from engine.errors import EmptyCart, NotFound
from engine.ids import DerivedIds, random_id
from engine.orders import paid
from engine.reservations import Reservations
from engine.scripts import Scripts
from engine.sku_names import shown
from engine.states import Availability, State
from engine.stock import Stock
from engine.store import Record, Store
from engine.values import Cart, CartLine, Line, Origin, Reservation, SkuAvailability

LINE = "sku:"
SELLING = (Availability.AVAILABLE, Availability.ALL_HELD, Availability.SOLD_OUT)


class Carts:
    """`user` is '' for a guest, who may use any cart that is nobody's: its id is as good as a key.

    Every method raises NotFound for a cart that is unknown, has run out, or is another user's.
    """

    def __init__(
        self, store: Store, scripts: Scripts, stock: Stock, reservations: Reservations, ids: DerivedIds, ttl_ms: int
    ) -> None:
        self._store = store
        self._scripts = scripts
        self._stock = stock
        self._reservations = reservations
        self._ids = ids
        self._ttl_ms = ttl_ms

    def create(self, origin: Origin, idempotency_key: str = "") -> Cart:
        """Make an empty cart, `origin.user`'s own if there is one.

        With an idempotency key a user's repeat gets the same cart. A guest's doesn't: guests can't be told apart.
        """
        keyed = bool(idempotency_key and origin.user)
        cart_id = self._ids.of("cart", origin.actor, origin.user, idempotency_key) if keyed else random_id()
        created = self._store.create_cart(cart_id, origin.user, self._ttl_ms)
        return Cart(cart_id, (), replayed=not created)

    def get(self, cart_id: str, origin: Origin) -> Cart:
        """Show the cart with what can be had now. Using it renews its time."""
        lines = self._lines(cart_id, origin.user)
        self._store.touch_cart(cart_id, self._ttl_ms)
        skus = [line.sku for line in lines]
        if not skus:
            return Cart(cart_id, ())
        found = self._stock.availability(skus, origin)
        allowed = self._store.allowed(origin.user, skus)
        latest = self._latest(cart_id)
        live = latest is not None and latest.fields["state"] == State.RESERVED
        own = {line.sku: line.quantity for line in latest.lines} if live and latest else {}
        return Cart(
            cart_id,
            tuple(
                _shown(line, now, own.get(line.sku, 0), allowed.get(line.sku))
                for line, now in zip(lines, found, strict=True)
            ),
        )

    def put_line(self, cart_id: str, origin: Origin, line: Line) -> Cart:
        """Want `line.quantity` units of the SKU; 0 takes it out.

        Raises:
            ValidationFailed: the cart is full.
        """
        self._scripts.put_line(cart_id, origin.user, line)
        return self.get(cart_id, origin)

    def delete(self, cart_id: str, origin: Origin) -> None:
        """Forget the cart. A reservation made from it stays as it is."""
        self._lines(cart_id, origin.user)
        self._store.delete_cart(cart_id)

    def checkout(
        self, cart_id: str, origin: Origin, hold_seconds: int | None, idempotency_key: str = "", fingerprint: str = ""
    ) -> Reservation:
        """Reserve every line of the cart, or none; the cart becomes `origin.user`'s, even if that is refused.

        The cart's live reservation, if there is one, is replaced in the same step: its units count as free, and its
        start is kept for the cap of 900 s. If the new one can't be had, the old one stands.

        Raises:
            EmptyCart: nothing is in it.
            LinesUnavailable: at least one line can't be had; has a verdict for each.
        """
        claim = self._reservations.claim(origin, (), hold_seconds, idempotency_key, fingerprint)
        if replayed := self._reservations.repeated(claim):
            return replayed
        while True:
            latest = self._store.latest_checkout(cart_id)
            before = self._store.record(latest) if latest else None
            if before and (order := paid(before)):
                # Its commit may not have come to that yet; and nothing is to be bought twice.
                self._scripts.empty_cart(cart_id, order)
                before = None
            lines = self._lines(cart_id, origin.user)
            if not lines:
                raise EmptyCart("There is nothing in the cart.")
            self._scripts.bind_cart(cart_id, origin.user)
            made = self._reservations.check_out(claim, tuple(lines), cart_id, latest, before)
            if made is not None:
                return made

    def _lines(self, cart_id: str, user: str) -> list[Line]:
        fields = self._store.cart(cart_id)
        if not fields or fields.get("user", user) != user:
            raise NotFound("No such cart")
        wanted = {shown(name.removeprefix(LINE)): units for name, units in fields.items() if name.startswith(LINE)}
        return [Line(sku, int(units)) for sku, units in wanted.items()]

    def _latest(self, cart_id: str) -> Record | None:
        latest = self._store.latest_checkout(cart_id)
        return self._store.record(latest) if latest else None


def _shown(line: Line, now: SkuAvailability, own: int, allowed: int | None) -> CartLine:
    within_limit = allowed is None or line.quantity <= allowed + own
    fulfillable = now.status in SELLING and line.quantity <= now.available + own and within_limit
    return CartLine(line.sku, line.quantity, now.available, now.status, fulfillable)
