"""Carts: what a buyer would like to have. They never touch stock; a checkout makes a reservation of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from engine.config import Settings
from engine.errors import AlreadyCommitted, EmptyCart, IdempotencyKeyReused, NotFound
from engine.ids import CartIds, DerivedIds
from engine.orders import paid
from engine.reservations import Reservations
from engine.scripts import Scripts
from engine.sku_names import shown
from engine.states import Availability, State
from engine.stock import Stock
from engine.store import Record, Store
from engine.values import Cart, CartLine, Line, Operation, Origin, Reservation, SkuAvailability, summed

LINE = "sku:"
DELETED = "deleted"
SELLING = (Availability.AVAILABLE, Availability.ALL_HELD, Availability.SOLD_OUT)
RETRIES_MS = 60_000
"""How much longer than its id is valid a deleted cart is remembered, for calls that checked the id just before its end."""


@dataclass(frozen=True)
class Found:
    """A cart as Redis has it at `now_ms`. `owner` is '' for a guest's. Not `kept`: it has no key, because it never had a line."""

    id: str
    owner: str
    lines: tuple[Line, ...]
    kept: bool
    now_ms: int


class Carts:
    """`user` is '' for a guest, who may use any cart that is nobody's: its id is as good as a key.

    A cart gets a key in Redis with its first line. Until then its id alone says that it was issued, to whom and when.
    Guests' carts that have a key are counted, and there are at most `most_guest_carts`. A deleted one is counted until
    its id isn't valid any more, because so long a mark is kept that says it is deleted.

    Every method raises NotFound for a cart that is unknown, was deleted, has run out, or is another user's; and those
    that change a cart raise TooManyGuestCarts where a guest's would be one too many.
    """

    def __init__(
        self,
        store: Store,
        scripts: Scripts,
        stock: Stock,
        reservations: Reservations,
        ids: DerivedIds,
        cart_ids: CartIds,
        settings: Settings,
    ) -> None:
        self._store = store
        self._scripts = scripts
        self._stock = stock
        self._reservations = reservations
        self._ids = ids
        self._cart_ids = cart_ids
        self._settings = settings

    def create(
        self, origin: Origin, lines: Sequence[Line] = (), idempotency_key: str = "", fingerprint: str = ""
    ) -> Cart:
        """Make a cart with these lines, `origin.user`'s own if there is one. Lines of one SKU are summed.

        With an idempotency key (and the request's fingerprint) a user's repeat gets the same cart, as it is now.
        A guest's doesn't: guests can't be told apart.

        Raises:
            IdempotencyKeyReused: the key came before with another fingerprint.
            NotFound: a repeat, and the cart was deleted or has run out since.
        """
        issued = self._cart_ids.issue(origin.user, self._store.time_ms())
        cart_id = issued
        if idempotency_key and origin.user:
            operation = Operation(self._ids.of("cart", origin.actor, origin.user, idempotency_key), fingerprint)
            first = self._store.remember_cart(operation, issued, self._settings.retain_ms)
            if first is None:
                raise IdempotencyKeyReused
            cart_id = first
        if lines:
            # A repeat also puts the lines in, for a first call that broke off before it could.
            self._set_lines(cart_id, origin, lines, only_new=True)
        elif cart_id == issued:
            return Cart(cart_id, ())
        return replace(self.get(cart_id, origin), replayed=cart_id != issued)

    def get(self, cart_id: str, origin: Origin) -> Cart:
        """Show the cart with what can be had now. Using it renews its time."""
        cart = self._find(cart_id, origin.user)
        self._touch(cart)
        lines = cart.lines
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

        Taking out the last line releases the cart's live reservation.

        Raises:
            ValidationFailed: the cart is full.
        """
        cart = self._find(cart_id, origin.user)
        if cart.kept or line.quantity:
            self._admit(cart, self._ttl_ms(cart.owner))
            self._scripts.put_line(cart_id, origin.user, line, cart.owner, not cart.kept)
        return self._changed(cart_id, origin)

    def set_lines(self, cart_id: str, origin: Origin, lines: Sequence[Line]) -> Cart:
        """Want these lines and no others. Lines of one SKU are summed; no line at all is as if the last was taken out."""
        self._set_lines(cart_id, origin, lines)
        return self._changed(cart_id, origin)

    def delete(self, cart_id: str, origin: Origin) -> None:
        """Delete the cart and release its live reservation. What is paid for stays."""
        cart = self._find(cart_id, origin.user)
        valid_until_ms = max((until_ms for _, until_ms in self._issued(cart_id, origin.user)), default=0)
        keep_ms = max(0, valid_until_ms + RETRIES_MS - cart.now_ms)
        self._admit(cart, keep_ms)
        # First, so that a failure leaves a cart with which the call can be repeated.
        self._release(cart_id, origin, "cart deleted")
        self._scripts.delete_cart(cart_id, origin.user, keep_ms)
        # And once more, for a checkout that came between.
        self._release(cart_id, origin, "cart deleted")

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
            cart = self._filled(cart_id, origin.user)
            self._scripts.bind_cart(cart_id, origin.user)
            if not cart.owner:
                self._store.discount_guest_cart(cart_id)
            made = self._reservations.check_out(claim, cart.lines, cart_id, latest, before)
            if made is not None:
                self._still_filled(cart_id, origin, made)
                return made

    def _find(self, cart_id: str, user: str) -> Found:
        fields, now_ms = self._store.cart(cart_id)
        if DELETED in fields:
            raise NotFound("No cart has this id, or it is another user's.")
        if fields:
            owners = [fields.get("user", "")]
        else:
            owners = [owner for owner, until_ms in self._issued(cart_id, user) if now_ms < until_ms]
        if not owners or owners[0] not in ("", user):
            raise NotFound("No cart has this id, or it is another user's.")
        wanted = {shown(name.removeprefix(LINE)): units for name, units in fields.items() if name.startswith(LINE)}
        lines = tuple(Line(sku, int(units)) for sku, units in wanted.items())
        return Found(cart_id, owners[0], lines, bool(fields), now_ms)

    def _issued(self, cart_id: str, user: str) -> list[tuple[str, int]]:
        """To which of the two, the user and guests, the id was issued, and until when an empty cart may have it."""
        issued_ms = {owner: self._cart_ids.issued_ms(cart_id, owner) for owner in (user, "")}
        return [(owner, at_ms + self._ttl_ms(owner)) for owner, at_ms in issued_ms.items() if at_ms is not None]

    def _ttl_ms(self, owner: str) -> int:
        return self._settings.cart_ttl_ms if owner else self._settings.guest_cart_ttl_ms

    def _touch(self, cart: Found) -> None:
        if cart.owner:
            self._store.touch_cart(cart.id, self._ttl_ms(cart.owner))
        elif cart.kept:
            self._store.touch_guest_cart(cart.id, self._ttl_ms(cart.owner), cart.now_ms)

    def _admit(self, cart: Found, ttl_ms: int) -> None:
        """Count the cart if a guest's is about to get a key. Raises: TooManyGuestCarts."""
        if not cart.owner and not cart.kept:
            self._scripts.admit_cart(cart.id, ttl_ms)

    def _set_lines(self, cart_id: str, origin: Origin, lines: Sequence[Line], only_new: bool = False) -> None:
        cart = self._find(cart_id, origin.user)
        if cart.kept or lines:
            self._admit(cart, self._ttl_ms(cart.owner))
            self._scripts.set_lines(cart_id, origin.user, summed(lines), cart.owner, not cart.kept, only_new)

    def _changed(self, cart_id: str, origin: Origin) -> Cart:
        """The cart after a change. If it has become empty, its live reservation is released."""
        cart = self.get(cart_id, origin)
        if not cart.lines:
            self._release(cart_id, origin, "cart emptied")
        return cart

    def _release(self, cart_id: str, origin: Origin, reason: str) -> None:
        """Release the cart's live reservation, if there is one. A guest's cart has none: its checkout makes it a user's."""
        latest = self._latest(cart_id) if origin.user else None
        if latest is not None and latest.fields["state"] == State.RESERVED:
            with suppress(AlreadyCommitted, NotFound):
                self._reservations.release(latest.id, origin, reason)

    def _filled(self, cart_id: str, user: str) -> Found:
        cart = self._find(cart_id, user)
        if not cart.lines:
            raise EmptyCart("The cart has no lines; put a SKU into it first.")
        return cart

    def _still_filled(self, cart_id: str, origin: Origin, made: Reservation) -> None:
        """Give back what was just reserved if its cart was emptied or deleted meanwhile: that call found nothing to release."""
        if made.replayed:
            return
        try:
            self._filled(cart_id, origin.user)
        except (EmptyCart, NotFound):
            with suppress(AlreadyCommitted):
                self._reservations.release(made.id, origin, "cart emptied")
            raise

    def _latest(self, cart_id: str) -> Record | None:
        latest = self._store.latest_checkout(cart_id)
        return self._store.record(latest) if latest else None


def _shown(line: Line, now: SkuAvailability, own: int, allowed: int | None) -> CartLine:
    within_limit = allowed is None or line.quantity <= allowed + own
    fulfillable = now.status in SELLING and line.quantity <= now.available + own and within_limit
    return CartLine(line.sku, line.quantity, now.available, now.status, fulfillable)
