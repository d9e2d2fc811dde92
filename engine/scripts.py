"""One typed method for each file in lua/. Only this module orders KEYS and ARGV; `engine.replies` reads the answers.

Every script is atomic, checks everything before it writes, and gives the same answer when it runs twice.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError, ReadOnlyError, RedisError

from engine import errors
from engine.config import Settings
from engine.fold import LEVERS
from engine.keys import LAYOUT
from engine.ledger import Position
from engine.limits import MAX_HOLD_SECONDS, MAX_LINES, MAX_ON_HAND
from engine.meter import Meter, outcome
from engine.pipe import Command
from engine.replies import (
    Claim,
    Committed,
    Due,
    Extended,
    Moved,
    Noted,
    OrderChanged,
    OtherAttempt,
    Refundable,
    Refused,
    Replayed,
    Reply,
    Reserved,
    Told,
    done,
    fields_of,
    flat,
    missing_lines,
    order_changed,
    refuse,
    reserved,
    reserved_or_error,
)
from engine.restoring import Call, Restoring, Words
from engine.sku_names import stored
from engine.states import State
from engine.store import Record, Store, deadlines, failed, sku_from
from engine.values import Lever, Line, Operation, Order, Origin, Sku, SkuChange


class Scripts:
    def __init__(self, store: Store, settings: Settings, meter: Meter) -> None:
        self._store = store
        self._redis = store.redis
        self._meter = meter
        self._calls = store.calls
        self._keys = store.keys
        self._settings = settings
        self._sources = dict(sources())
        self._digests = {name: _digest(source) for name, source in self._sources.items()}

    def close(self, token: str, reason: str, restoring: bool = False) -> None:
        """Shut the gate. `restoring`: meta is forgotten, because everything comes back from the ledger."""
        done(self._run("close", [self._keys.meta], [LAYOUT, token, reason, int(restoring)]), "shut")

    def open(
        self,
        token: str,
        run_id: str,
        epoch: int,
        reached: Position,
        clock_ms: int,
        reason: str,
        selling: Mapping[str, str],
    ) -> None:
        """Certify the server and open the gate that `token` has closed.

        Raises:
            StoreUnavailable: somebody else has taken over, or Redis has events after `reached`.
        """
        arguments: Words = [LAYOUT, token, run_id, epoch, reached.seq, reached.chain, clock_ms, "keeper", reason]
        arguments += [selling.get(name, "") for name in LEVERS]
        done(self._run("open", [self._keys.meta, self._keys.ledger], arguments), "opened")

    def restore(self, token: str, pipelined: int) -> Restoring:
        return Restoring(self._keys, lambda calls: self._run_all("restore", calls), token, pipelined)

    def adopt(self, kind: str, name: str, fields: Sequence[str], actor: str, reason: str) -> None:
        """Put on record what Redis holds of a SKU, a reservation, a SKU's customers (those named) or of the levers."""
        keys = self._keys
        held = {
            "sku": keys.sku(name),
            "reservation": keys.reservation(name),
            "buyers": keys.buyers(name),
            "levers": keys.meta,
        }[kind]
        of_sku = kind in ("sku", "buyers")
        arguments: Words = [kind, "" if of_sku else name, f"{stored(name)}=0" if of_sku else "", actor, reason]
        reply = self._run("adopt", [keys.meta, keys.ledger, held], [*arguments, *fields])
        if reply != ["adopted"]:
            refuse(reply)

    def recall(self, reservation_id: str, record: Mapping[str, str]) -> None:
        """Bring a record back that Redis has let go; one that is there stays as it is."""
        keys = [self._keys.meta, self._keys.reservation(reservation_id)]
        # An open order stays.
        retain_ms = 0 if record["state"] == State.COMMITTED else self._settings.retain_ms
        reply = self._run("recall", keys, [retain_ms, *flat(record)])
        if reply == ["closed"]:
            refuse(reply)

    def trim(self, reached: Position, keep: int, most: int) -> None:
        """Let events go that Postgres has; a closed gate leaves them."""
        self._run("trim", [self._keys.meta, self._keys.ledger], [reached.epoch, reached.seq, keep, most])

    def reserve(self, claim: Claim, holds: Sequence[str] = ()) -> Reserved | Replayed | Refused | Moved:
        """`holds`: ids of those whose deadlines a refusal shall tell, from the same round trip."""
        reply, *scores = self._run_all("reserve", [self._reserve_call(claim)], self._store.ask_deadlines(holds))
        return reserved(reply, deadlines(holds, scores))

    def reserve_all(
        self, claims: Sequence[Claim], holds: Sequence[str] = ()
    ) -> list[Reserved | Replayed | Refused | Moved | errors.EngineError]:
        """Each claim on its own, all of them in one round trip."""
        calls = [self._reserve_call(claim) for claim in claims]
        replies = self._run_all("reserve", calls, self._store.ask_deadlines(holds))
        seen = deadlines(holds, replies[len(calls) :])
        return [reserved_or_error(reply, seen) for reply in replies[: len(calls)]]

    def _reserve_call(self, claim: Claim) -> Call:
        origin, keys = claim.origin, [self._keys.meta, self._keys.ledger, *self._keys.hold(claim.id)]
        keys += self._keys.skus_and_buyers(line.sku for line in claim.lines)
        if claim.cart_id:
            keys.append(self._keys.checkout(claim.cart_id))
        if claim.replaces:
            keys += [self._keys.reservation(claim.replaces.id), self._keys.lease(claim.replaces.id)]
            keys += self._keys.skus_and_buyers(claim.replaces.skus)
        arguments: Words = [claim.id, origin.user, origin.actor, origin.request_id, claim.hold_ms, claim.fingerprint]
        arguments += [claim.cart_id, claim.replaces.id if claim.replaces else claim.latest, self._settings.retain_ms]
        arguments.append(int(not claim.by_default))
        arguments += [value for line in claim.lines for value in (stored(line.sku), line.quantity)]
        return keys, arguments

    def extend(self, record: Record, origin: Origin, hold_ms: int, operation: Operation) -> Extended:
        keys = [self._keys.meta, self._keys.ledger, *self._keys.hold(record.id), self._keys.operation(operation.id)]
        keys += [self._keys.sku(sku) for sku in record.skus]
        arguments: Words = [
            record.id,
            origin.actor,
            origin.request_id,
            hold_ms,
            operation.fingerprint,
            self._settings.retain_ms,
        ]
        match self._run("extend", keys, arguments):
            case ["extended", deadline_ms]:
                return Extended(deadline_ms, replayed=False)
            case ["replayed", "extended", deadline_ms]:
                return Extended(deadline_ms, replayed=True)
            case reply:
                refuse(reply)

    def release(
        self, record: Record, origin: Origin, reason: str, lever: Lever, payment_id: str = ""
    ) -> State | Due | OtherAttempt:
        """`payment_id`: the attempt to pay whose cancelling is the reason.

        Returns: the hold's state then; that is still `reserved` after a dry run which found nothing in the way.
        """
        keys = self._hold_keys(record.id, record.skus)
        arguments: Words = [record.id, origin.actor, origin.request_id, reason, self._settings.retain_ms, lever]
        arguments.append(payment_id)
        match self._run("release", keys, arguments):
            case ["released"]:
                return State.RELEASED
            case ["would_release"]:
                return State.RESERVED
            case ["ended", state]:
                return State(state)
            case ["due", now_ms]:
                return Due(now_ms)
            case ["other_attempt", noted]:
                return OtherAttempt(noted)
            case reply:
                refuse(reply)

    def expire(self, holds: Sequence[tuple[str, Sequence[str]]], origin: Origin) -> list[str]:
        """End the holds (id, SKUs) whose time has run out, in one round trip.

        Returns: a status for each: `expired`, `ended` (before), `dropped`, `not_due`, `inconsistent` or `wrong_keys`.

        Raises:
            Closed: the gate is shut.
        """
        calls: list[Call] = [
            (
                self._hold_keys(reservation_id, skus),
                [reservation_id, origin.actor, origin.request_id, self._settings.retain_ms],
            )
            for reservation_id, skus in holds
        ]
        statuses = [str(reply[0]) for reply in self._run_all("expire", calls)]
        if "closed" in statuses:
            raise errors.Closed
        return statuses

    def commit(
        self,
        record: Record,
        origin: Origin,
        payment_id: str,
        settled: bool,
        operation: Operation,
        latest: str,
        later: Record | None,
    ) -> Committed | Refundable | Due | Moved:
        """`latest` is the id of the latest reservation of the hold's cart, and `later` that one, if it may be live."""
        keys = [self._keys.meta, self._keys.ledger, *self._keys.hold(record.id), self._keys.operation(operation.id)]
        keys += [self._keys.payment(payment_id), *self._keys.skus_and_buyers(record.skus)]
        if cart_id := record.fields.get("cart"):
            keys.append(self._keys.checkout(cart_id))
        if later:
            keys += [self._keys.reservation(later.id), self._keys.lease(later.id)]
            keys += self._keys.skus_and_buyers(later.skus)
        arguments: Words = [record.id, payment_id, origin.actor, origin.request_id, int(settled)]
        arguments += [operation.fingerprint, self._settings.retain_ms, latest]
        match self._run("commit", keys, arguments):
            case ["committed", committed_ms, late, epoch, seq]:
                return Committed(committed_ms, bool(late), epoch, seq, replayed=False)
            case ["replayed", epoch, seq, "committed", committed_ms, late]:
                return Committed(committed_ms, bool(late), epoch, seq, replayed=True)
            case ["due", now_ms]:
                return Due(now_ms)
            case ["refund_required", missing, epoch, seq]:
                return Refundable(tuple(missing_lines(missing)), epoch, seq)
            case ["moved"]:
                return Moved()
            case reply:
                refuse(reply)

    def cancel(
        self, record: Record, origin: Origin, reason: str, lines: Sequence[Line], operation: Operation
    ) -> OrderChanged:
        keys = [
            self._keys.meta,
            self._keys.ledger,
            self._keys.reservation(record.id),
            self._keys.operation(operation.id),
        ]
        keys += self._keys.skus_and_buyers(record.skus)
        arguments: Words = [record.id, origin.actor, origin.request_id, reason]
        arguments += [operation.fingerprint, self._settings.retain_ms, self._settings.retain_ms]
        arguments += [value for line in lines for value in (stored(line.sku), line.quantity)]
        return order_changed(self._run("cancel", keys, arguments), "cancelled")

    def fulfil(self, record: Record, origin: Origin, lines: Sequence[Line], operation: Operation) -> OrderChanged:
        keys = [
            self._keys.meta,
            self._keys.ledger,
            self._keys.reservation(record.id),
            self._keys.operation(operation.id),
        ]
        keys += [self._keys.sku(sku) for sku in record.skus]
        arguments: Words = [record.id, origin.actor, origin.request_id]
        arguments += [operation.fingerprint, self._settings.retain_ms, self._settings.retain_ms]
        arguments += [value for line in lines for value in (stored(line.sku), line.quantity)]
        return order_changed(self._run("fulfil", keys, arguments), "fulfilled")

    def adjust(self, sku: str, delta: int, origin: Origin, reason: str, operation: Operation) -> Sku:
        """Needs an operation: without one, sending it twice would adjust twice."""
        keys = [self._keys.meta, self._keys.ledger, self._keys.sku(sku), self._keys.operation(operation.id)]
        arguments: Words = [stored(sku), delta, origin.actor, origin.request_id, reason]
        arguments += [operation.fingerprint, self._settings.retain_ms, MAX_ON_HAND]
        match self._run("adjust", keys, arguments):
            case ["adjusted", *values]:
                return sku_from(sku, fields_of(values))
            case ["replayed", "adjusted", *values]:
                return sku_from(sku, fields_of(values), replayed=True)
            case ["insufficient_stock", available]:
                raise errors.InsufficientStock(f"delta is {delta}, but {sku} has only {available} available.")
            case ["not_found"]:
                raise errors.NotFound(f"No SKU is called {sku}.")
            case ["on_hand_too_large", most]:
                raise errors.ValidationFailed({"delta": [f"It would take on_hand above {most}."]})
            case reply:
                refuse(reply)

    def configure(
        self, change: SkuChange, origin: Origin, operation: Operation, reason: str, lever: Lever
    ) -> tuple[Sku, bool]:
        """Returns: the SKU, as it would become after a dry run, and whether it is new."""
        keys, arguments = self._configure_call(change, origin, operation, reason, lever)
        return _configured(change.sku, self._run("configure", keys, arguments))

    def configure_all(
        self, calls: Sequence[tuple[SkuChange, Operation]], origin: Origin, reason: str, lever: Lever
    ) -> list[tuple[Sku, bool] | errors.EngineError]:
        """Each change on its own, all of them in one round trip. A refusal stands in its place and isn't raised."""
        asked = [self._configure_call(change, origin, operation, reason, lever) for change, operation in calls]
        answered: list[tuple[Sku, bool] | errors.EngineError] = []
        for (change, _), reply in zip(calls, self._run_all("configure", asked), strict=True):
            try:
                answered.append(_configured(change.sku, reply))
            except errors.EngineError as error:
                answered.append(error)
        return answered

    def _configure_call(
        self, change: SkuChange, origin: Origin, operation: Operation, reason: str, lever: Lever
    ) -> Call:
        keys = [
            self._keys.meta,
            self._keys.ledger,
            self._keys.sku(change.sku),
            self._keys.operation(operation.id),
            self._keys.skus,
        ]
        on_hand = "" if change.on_hand is None else change.on_hand
        arguments: Words = [stored(change.sku), on_hand, origin.actor, origin.request_id]
        arguments += [operation.fingerprint, self._settings.retain_ms, reason, lever]
        arguments += [word for pair in change.attributes.items() for word in pair]
        return keys, arguments

    def selling(self, paused: bool, reason: str, origin: Origin, lever: Lever) -> None:
        keys = [self._keys.meta, self._keys.ledger]
        reply = self._run("selling", keys, [int(paused), reason, origin.actor, origin.request_id, lever])
        if reply not in (["set"], ["would_set"]):
            refuse(reply)

    def default_hold(self, hold_ms: int | None, reason: str, origin: Origin, lever: Lever) -> None:
        """None clears it."""
        keys, words = [self._keys.meta, self._keys.ledger], "" if hold_ms is None else hold_ms
        match self._run("default_hold", keys, [words, reason, origin.actor, origin.request_id, lever]):
            case ["set" | "would_set"]:
                return
            case ["bad_request"]:
                most = MAX_HOLD_SECONDS
                raise errors.ValidationFailed(
                    {"default_hold": [f"Must be a whole number of seconds from 1 to {most}."]}
                )
            case reply:
                refuse(reply)

    def refund(self, order_id: str, origin: Origin, payment_id: str) -> Noted:
        """Put on record that a payment must be given back, because another one has paid for the order.

        Not required if it is this payment that has paid for it, after all.
        """
        keys = [self._keys.meta, self._keys.ledger, self._keys.reservation(order_id), self._keys.payment(payment_id)]
        arguments: Words = [order_id, payment_id, origin.actor, origin.request_id, self._settings.retain_ms]
        match self._run("refund", keys, arguments):
            case ["refund_required" | "committed" as status, epoch, seq]:
                return Noted(status == "refund_required", epoch, seq)
            case reply:
                refuse(reply)

    def note(self, reservation_id: str, origin: Origin, payment_id: str, told: str, operation: Operation) -> Told:
        """Put on record what a provider has told of an attempt to pay, also for a reservation that nobody knows."""
        keys = [self._keys.meta, self._keys.ledger, self._keys.reservation(reservation_id)]
        keys.append(self._keys.operation(operation.id))
        arguments: Words = [reservation_id, payment_id, origin.actor, origin.request_id, told]
        arguments += [operation.fingerprint, self._settings.retain_ms]
        match self._run("note", keys, arguments):
            case ["noted" | "unknown_reservation" as status, epoch, seq] | ["replayed", epoch, seq, status]:
                return Told(status == "noted", epoch, seq)
            case reply:
                refuse(reply)

    def put_line(self, cart_id: str, user: str, line: Line, owner: str = "", may_make: bool = False) -> None:
        """A quantity of 0 takes the line out. `may_make`: a cart that isn't there is made, and is `owner`'s."""
        arguments = self._cart_arguments(user, owner, may_make)
        self._change_cart("put_line", cart_id, [*arguments, stored(line.sku), line.quantity], "sku")

    def set_lines(
        self, cart_id: str, user: str, lines: Sequence[Line], owner: str, may_make: bool, only_new: bool
    ) -> None:
        """Replace all lines. As `put_line`; `only_new`: a cart that is there keeps its lines."""
        arguments = [*self._cart_arguments(user, owner, may_make), int(only_new)]
        arguments += [value for line in lines for value in (stored(line.sku), line.quantity)]
        self._change_cart("set_lines", cart_id, arguments, "lines")

    def _cart_arguments(self, user: str, owner: str, may_make: bool) -> Words:
        given = self._settings
        return [user, owner, int(may_make), MAX_LINES, given.cart_ttl_ms, given.guest_cart_ttl_ms]

    def _change_cart(self, name: str, cart_id: str, arguments: Words, field: str) -> None:
        match self._run(name, [self._keys.cart(cart_id)], arguments):
            case ["put" | "set"]:
                return
            case ["not_found"]:
                raise errors.NotFound("No cart has this id, or it is another user's.")
            case ["too_many_lines"]:
                raise errors.ValidationFailed({field: [f"A cart has at most {MAX_LINES} lines."]})
            case reply:
                refuse(reply)

    def delete_cart(self, cart_id: str, user: str, keep_ms: int) -> None:
        """`keep_ms`: how long a mark keeps the id from being taken for an empty cart's."""
        reply = self._run("delete_cart", [self._keys.cart(cart_id)], [user, keep_ms])
        if reply != ["deleted"]:
            raise errors.NotFound("No cart has this id, or it is another user's.")

    def admit_cart(self, cart_id: str, ttl_ms: int) -> None:
        """Count a guest's cart for `ttl_ms`. Raises: TooManyGuestCarts."""
        arguments: Words = [cart_id, ttl_ms, self._settings.most_guest_carts]
        match self._run("admit_cart", [self._keys.guest_carts], arguments):
            case ["admitted"]:
                return
            case ["full", wait_ms]:
                raise errors.TooManyGuestCarts(wait_ms)
            case reply:
                refuse(reply)

    def bind_cart(self, cart_id: str, user: str) -> None:
        reply = self._run("bind_cart", [self._keys.cart(cart_id)], [user, self._settings.cart_ttl_ms])
        if reply != ["bound"]:
            raise errors.NotFound("No cart has this id, or it is another user's.")

    def empty_cart(self, cart_id: str, order: Order) -> None:
        """A cart that is gone is empty enough."""
        arguments: Words = [order.id, self._settings.cart_ttl_ms]
        arguments += [value for line in order.lines for value in (stored(line.sku), line.quantity)]
        self._run("empty_cart", [self._keys.cart(cart_id)], arguments)

    def _hold_keys(self, reservation_id: str, skus: Sequence[str]) -> list[str]:
        hold = [self._keys.meta, self._keys.ledger, *self._keys.hold(reservation_id)]
        return hold + self._keys.skus_and_buyers(skus)

    def _run(self, name: str, keys: Sequence[str | bytes], arguments: Words) -> Reply:
        reply: Reply = self._run_all(name, [(keys, arguments)])[0]
        return reply

    def _run_all(self, name: str, calls: Sequence[Call], beside: Sequence[Command] = ()) -> list[Any]:
        """Run a script once for each call, and then the commands beside it, all in one round trip.

        Returns: their replies. Of a command beside it that may be a ResponseError, or None where it wasn't asked after the script.
        """
        if not calls:
            return []
        known = [("EVALSHA", self._digests[name], len(keys), *keys, *arguments) for keys, arguments in calls]
        replies: list[Any] = [None] * len(calls)
        code, began_s = errors.StoreUnavailable.code, time.perf_counter()
        try:
            replies = self._calls.ask(*known, *beside)
            for at, reply in enumerate(replies):
                if isinstance(reply, NoScriptError):
                    # A new server, or somebody has flushed its scripts. EVAL leaves the script there.
                    [replies[at]] = [reply] = self._calls.ask(("EVAL", self._sources[name], *known[at][2:]))
                    # What was answered beside it is older than that.
                    replies[len(calls) :] = [None] * len(beside)
                if isinstance(reply, Exception) and at < len(calls):
                    raise reply
        except RedisError as error:
            if isinstance(error, ReadOnlyError):
                # A server that has become a replica is connected to anew, which certifies it anew.
                self._redis.connection_pool.disconnect(inuse_connections=False)
            told = failed(error)
            code = getattr(told, "code", code)
            if told is error:
                raise
            raise told from error
        finally:
            self._meter.ran(
                name, time.perf_counter() - began_s, [outcome(reply, code) for reply in replies[: len(calls)]]
            )
        return replies


def _configured(sku: str, reply: Reply) -> tuple[Sku, bool]:
    match reply:
        case ["created" | "would_create", *values]:
            return sku_from(sku, fields_of(values)), True
        case ["changed" | "would_change", *values]:
            return sku_from(sku, fields_of(values)), False
        case ["replayed", status, *values]:
            return sku_from(sku, fields_of(values), replayed=True), status == "created"
        case ["stock_below_claims", claims]:
            raise errors.StockBelowClaims(
                f"on_hand can't be below {claims}: so many units of {sku} are reserved or allocated."
            )
        case ["sale_ends_before_it_starts"]:
            raise errors.ValidationFailed({"sale_ends_at": ["Must be later than sale_starts_at."]})
        case reply:
            refuse(reply)


def _digest(source: str) -> str:
    """By which Redis knows a script."""
    return hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


def sources() -> list[tuple[str, str]]:
    """Name and text of every script."""
    found = [
        (path.name.removesuffix(".lua"), path.read_text())
        for path in files("lua").iterdir()
        if path.name.endswith(".lua")
    ]
    return sorted(found)
