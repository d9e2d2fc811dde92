"""The shop in plain Python: what the engine must do, said a second time, without Redis, scripts or laziness.

A hold ends here in the very millisecond of its deadline. The engine may be later in doing it, but must never show it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

LONGEST_MS = 900_000
DEAD = ("released", "expired")
PAID = ("committed", "fulfilled", "cancelled")

Basket = Mapping[str, int]


class Refused(Exception):
    """What the engine must raise: its code, and what it says beside it."""

    def __init__(self, code: str, *said: object) -> None:
        super().__init__(code, *said)
        self.code = code
        self.said = said


@dataclass
class Shelf:
    available: int = 0
    reserved: int = 0
    allocated: int = 0
    limit: int | None = None
    starts_ms: int | None = None
    ends_ms: int | None = None
    paused: bool = False

    @property
    def on_hand(self) -> int:
        return self.available + self.reserved + self.allocated


@dataclass
class Hold:
    user: str
    basket: dict[str, int]
    created_ms: int
    deadline_ms: int
    cart: int | None = None
    state: str = "reserved"
    payment: str = ""
    late: bool = False
    cancelled: Counter[str] = field(default_factory=Counter)
    fulfilled: Counter[str] = field(default_factory=Counter)
    attempts: list[str] = field(default_factory=list)
    refunds: dict[str, list[tuple[str, int, int, str]]] = field(default_factory=dict)

    @property
    def left(self) -> Counter[str]:
        """What of an order is neither shipped nor called off."""
        return Counter(self.basket) - self.cancelled - self.fulfilled


@dataclass
class Cart:
    user: str
    wanted: dict[str, int] = field(default_factory=dict)
    latest: int | None = None
    emptied_for: set[int] = field(default_factory=set)
    kept: bool = False
    gone: bool = False


@dataclass
class Verdict:
    sku: str
    requested: int
    available: int
    verdict: str
    most: int


@dataclass
class Shop:
    """Holds and carts go by the number in which they were made."""

    now_ms: int
    shelves: dict[str, Shelf] = field(default_factory=dict)
    holds: list[Hold] = field(default_factory=list)
    carts: list[Cart] = field(default_factory=list)
    bought: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Units that a user holds and bought of a SKU since ever."""
    paid_for: dict[str, int] = field(default_factory=dict)
    """The hold that each payment was for."""
    stopped: bool = False
    default_hold_ms: int = LONGEST_MS

    def move_time(self, by_ms: int) -> None:
        self.now_ms += by_ms
        for hold in self.holds:
            if hold.state == "reserved" and hold.deadline_ms <= self.now_ms:
                self._put_back(hold, "expired")

    # Stock

    def configure(self, sku: str, on_hand: int | None, changes: Mapping[str, int | None]) -> bool:
        """`changes`: limit, starts_ms, ends_ms, paused. Gives whether the SKU is new."""
        new = sku not in self.shelves
        shelf = self.shelves.get(sku, Shelf())
        if on_hand is not None and on_hand < shelf.reserved + shelf.allocated:
            raise Refused("stock_below_claims")
        starts_ms, ends_ms = changes.get("starts_ms", shelf.starts_ms), changes.get("ends_ms", shelf.ends_ms)
        if starts_ms is not None and ends_ms is not None and ends_ms <= starts_ms:
            raise Refused("validation_failed")
        if on_hand is not None:
            shelf.available = on_hand - shelf.reserved - shelf.allocated
        shelf.limit = changes.get("limit", shelf.limit)
        shelf.starts_ms, shelf.ends_ms = starts_ms, ends_ms
        shelf.paused = bool(changes.get("paused", shelf.paused))
        self.shelves[sku] = shelf
        return new

    def adjust(self, sku: str, delta: int) -> None:
        if sku not in self.shelves:
            raise Refused("not_found")
        if self.shelves[sku].available + delta < 0:
            raise Refused("insufficient_stock")
        self.shelves[sku].available += delta

    def availability(self, sku: str) -> tuple[int, str]:
        shelf = self.shelves.get(sku)
        if shelf is None:
            return 0, "unknown_sku"
        if word := self._not_selling(shelf):
            return shelf.available, word
        if shelf.available:
            return shelf.available, "available"
        return 0, "all_held" if shelf.reserved else "sold_out"

    # Reservations

    def reserve(self, user: str, basket: Basket, hold_ms: int | None, cart: int | None = None) -> int:
        """`hold_ms` is None for those who ask for no time."""
        latest = None if cart is None else self.carts[cart].latest
        old = None if latest is None or self.holds[latest].state != "reserved" else self.holds[latest]
        verdicts = [self._judge(sku, units, user, old) for sku, units in basket.items()]
        if any(line.verdict != "ok" for line in verdicts):
            raise Refused("lines_unavailable", verdicts, latest if old else None)
        if old:
            self._put_back(old, "released")
        created_ms = old.created_ms if old else self.now_ms
        deadline_ms = min(self.now_ms + (hold_ms or self.default_hold_ms), created_ms + LONGEST_MS)
        self.holds.append(Hold(user, dict(basket), created_ms, deadline_ms, cart))
        for sku, units in basket.items():
            self.shelves[sku].available -= units
            self.shelves[sku].reserved += units
        self.bought.update({(sku, user): units for sku, units in basket.items()})
        number = len(self.holds) - 1
        if cart is not None:
            self.carts[cart].latest = number
        return number

    def extend(self, number: int, user: str, hold_ms: int) -> int:
        hold = self._own(number, user)
        if hold.state == "expired":
            raise Refused("reservation_expired")
        if hold.state != "reserved":
            raise Refused("invalid_transition")
        hold.deadline_ms = min(self.now_ms + hold_ms, hold.created_ms + LONGEST_MS)
        return hold.deadline_ms

    def release(self, number: int, user: str) -> str:
        hold = self._own(number, user)
        if hold.state in PAID:
            raise Refused("already_committed")
        if hold.state == "reserved":
            self._put_back(hold, "released")
        return hold.state

    def commit(self, number: int, payment: str) -> bool:
        """Gives whether it was late."""
        hold = self.holds[number]
        if payment in hold.refunds:
            raise Refused("refund_required", hold.refunds[payment])
        if payment != hold.payment and self.paid_for.get(payment, number) != number:
            raise Refused("payment_already_used")
        if hold.payment not in ("", payment):
            raise Refused("already_committed")
        if not hold.payment:
            self._pay(number, payment)
        self._empty_cart(number)
        return hold.late

    def webhook(self, event: str, number: int, payment: str) -> str:
        hold = self.holds[number]
        if event == "payment.succeeded":
            try:
                self.commit(number, payment)
            except Refused as refused:
                if refused.code == "payment_already_used":
                    return "ignored"
                if refused.code == "already_committed":
                    hold.refunds[payment] = []
                    self.paid_for[payment] = number
                return "refund_required"
            return "committed"
        if event in ("payment.canceled", "payment.cancelled"):
            if hold.state in PAID or (hold.state == "reserved" and hold.attempts and hold.attempts[-1] != payment):
                return "ignored"
            self.release(number, hold.user)
            return "released"
        if payment not in hold.attempts:
            hold.attempts.append(payment)
        return "noted"

    # Orders

    def cancel(self, number: int, basket: Basket) -> Hold:
        """What is named, or all that is left if nothing is."""
        hold = self._order(number)
        if hold.state != "cancelled":
            for sku, units in self._of_what_is_left(hold, basket).items():
                self.shelves[sku].allocated -= units
                self.shelves[sku].available += units
                hold.cancelled[sku] += units
                self.bought[sku, hold.user] -= units
            self._end_if_nothing_is_left(hold)
        return hold

    def fulfil(self, number: int, basket: Basket) -> Hold:
        """What is named, or all that is left if nothing is."""
        hold = self._order(number)
        if hold.state != "fulfilled" or basket:
            for sku, units in self._of_what_is_left(hold, basket).items():
                self.shelves[sku].allocated -= units
                hold.fulfilled[sku] += units
            self._end_if_nothing_is_left(hold)
        return hold

    def _of_what_is_left(self, hold: Hold, basket: Basket) -> Basket:
        if hold.state != "committed":
            raise Refused("invalid_transition")
        if any(units > hold.left[sku] for sku, units in basket.items()):
            raise Refused("validation_failed")
        return basket or hold.left

    def _end_if_nothing_is_left(self, hold: Hold) -> None:
        if not hold.left:
            hold.state = "fulfilled" if hold.fulfilled else "cancelled"

    # Carts

    def create_cart(self, user: str) -> int:
        self.carts.append(Cart(user))
        return len(self.carts) - 1

    def put_line(self, cart: int, user: str, sku: str, units: int) -> None:
        found = self._cart(cart, user)
        if units:
            found.wanted[sku] = units
            found.kept = True
        else:
            found.wanted.pop(sku, None)
        if not found.wanted:
            self._give_up_hold(found)

    def set_lines(self, cart: int, user: str, lines: Basket) -> None:
        found = self._cart(cart, user)
        found.wanted = dict(lines)
        found.kept = found.kept or bool(lines)
        if not lines:
            self._give_up_hold(found)

    def show(self, cart: int, user: str) -> dict[str, tuple[int, int, str, bool]]:
        """What a checkout by this user could have, line by line."""
        found = self._cart(cart, user)
        old = None if found.latest is None else self.holds[found.latest]
        lines = {}
        for sku, units in found.wanted.items():
            line = self._judge(sku, units, user, old if old and old.state == "reserved" else None)
            lines[sku] = (units, *self.availability(sku), line.verdict == "ok")
        return lines

    def check_out(self, cart: int, user: str, hold_ms: int | None) -> int:
        found = self._cart(cart, user)
        if not found.wanted:
            raise Refused("empty_cart")
        found.user = user
        return self.reserve(user, found.wanted, hold_ms, cart)

    def delete_cart(self, cart: int, user: str) -> None:
        found = self._cart(cart, user)
        self._give_up_hold(found)
        found.gone = True

    # Helpers

    def _judge(self, sku: str, units: int, user: str, old: Hold | None) -> Verdict:
        """Why the user can or can't have that many, if `old` were given back first."""
        shelf = self.shelves.get(sku)
        if shelf is None:
            return Verdict(sku, units, 0, "unknown_sku", 0)
        own = old.basket.get(sku, 0) if old else 0
        available = shelf.available + own
        if word := self._not_selling(shelf):
            return Verdict(sku, units, available, word, 0)
        most = available
        if shelf.limit is not None:
            counted = self.bought[sku, user] - own
            most = min(available, max(shelf.limit - counted, 0))
            if counted + units > shelf.limit:
                return Verdict(sku, units, available, "limit_exceeded", most)
        if units <= available:
            return Verdict(sku, units, available, "ok", most)
        if available:
            return Verdict(sku, units, available, "insufficient", most)
        return Verdict(sku, units, 0, "all_held" if shelf.reserved > own else "sold_out", most)

    def _not_selling(self, shelf: Shelf) -> str:
        if shelf.paused or self.stopped:
            return "paused"
        if shelf.starts_ms is not None and self.now_ms < shelf.starts_ms:
            return "not_started"
        return "ended" if shelf.ends_ms is not None and shelf.ends_ms <= self.now_ms else ""

    def _put_back(self, hold: Hold, state: str) -> None:
        hold.state = state
        for sku, units in hold.basket.items():
            self.shelves[sku].reserved -= units
            self.shelves[sku].available += units
            self.bought[sku, hold.user] -= units

    def _pay(self, number: int, payment: str) -> None:
        """After the hold's end as a new reservation would be made now, or out of a later checkout of the same cart."""
        hold, self.paid_for[payment] = self.holds[number], number
        late, latest = hold.state in DEAD, None if hold.cart is None else self.carts[hold.cart].latest
        later = self.holds[latest] if latest is not None and self.holds[latest].state == "reserved" else None
        if late:
            lines = [self._judge(sku, units, hold.user, later) for sku, units in hold.basket.items()]
            for line in lines:
                if later and line.requested <= later.basket.get(line.sku, 0):
                    line.verdict = "ok"
            if any(line.verdict != "ok" for line in lines):
                hold.refunds[payment] = [(line.sku, line.requested, line.available, line.verdict) for line in lines]
                raise Refused("refund_required", hold.refunds[payment])
            if later:
                self._put_back(later, "released")
        for sku, units in hold.basket.items():
            shelf = self.shelves[sku]
            if late:
                shelf.available -= units
                self.bought[sku, hold.user] += units
            else:
                shelf.reserved -= units
            shelf.allocated += units
        hold.state, hold.payment, hold.late = "committed", payment, late

    def _empty_cart(self, number: int) -> None:
        hold = self.holds[number]
        if hold.cart is None or self.carts[hold.cart].gone or number in self.carts[hold.cart].emptied_for:
            return
        cart = self.carts[hold.cart]
        cart.emptied_for.add(number)
        for sku, units in hold.basket.items():
            if cart.wanted.get(sku, 0) > units:
                cart.wanted[sku] -= units
            else:
                cart.wanted.pop(sku, None)

    def _give_up_hold(self, cart: Cart) -> None:
        if cart.latest is not None and self.holds[cart.latest].state == "reserved":
            self._put_back(self.holds[cart.latest], "released")

    def _own(self, number: int, user: str) -> Hold:
        if self.holds[number].user != user:
            raise Refused("not_found")
        return self.holds[number]

    def _order(self, number: int) -> Hold:
        if self.holds[number].state not in PAID:
            raise Refused("not_found")
        return self.holds[number]

    def _cart(self, cart: int, user: str) -> Cart:
        found = self.carts[cart]
        if found.gone or found.user not in ("", user):
            raise Refused("not_found")
        return found


def summed(lines: Iterable[tuple[str, int]]) -> dict[str, int]:
    basket: dict[str, int] = {}
    for sku, units in lines:
        basket[sku] = basket.get(sku, 0) + units
    return basket
