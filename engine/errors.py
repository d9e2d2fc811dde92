"""What can go wrong, one class a code. The code is the same word in Lua, Python, HTTP and the runbook."""

from __future__ import annotations

from typing import ClassVar

from engine.values import LineVerdict, MissingLine


class EngineError(Exception):
    """A refusal. Nothing was changed, unless the class says otherwise."""

    code: ClassVar[str] = "internal_error"


class NotFound(EngineError):
    code = "not_found"


class LinesUnavailable(EngineError):
    """No reservation: at least one line can't be had. `lines` has a verdict for every line of the basket.

    `standing` is the id of the reservation that the checkout of a cart would have replaced; it stands as it was.
    """

    code = "lines_unavailable"

    def __init__(self, lines: tuple[LineVerdict, ...], standing: str = "") -> None:
        refused = [f"{line.sku}: {line.verdict}" for line in lines if line.verdict != "ok"]
        kept = f"; reservation {standing} stands" if standing else ""
        super().__init__("Not every line can be reserved: " + ", ".join(refused) + kept)
        self.lines = lines
        self.standing = standing


class EmptyCart(EngineError):
    code = "empty_cart"


class TooManyGuestCarts(EngineError):
    """As many carts of guests are kept as may be. `wait_ms`: when the first of them stops being counted."""

    code = "too_many_requests"

    def __init__(self, wait_ms: int) -> None:
        super().__init__(
            "The store keeps no more guests' carts now. Wait Retry-After, or send a token: users' carts aren't limited."
        )
        self.wait_ms = wait_ms


class InsufficientStock(EngineError):
    code = "insufficient_stock"


class StockBelowClaims(EngineError):
    code = "stock_below_claims"


class ReservationExpired(EngineError):
    code = "reservation_expired"


class AlreadyCommitted(EngineError):
    code = "already_committed"


class PaymentAlreadyUsed(EngineError):
    """One payment pays for one reservation."""

    code = "payment_already_used"

    def __init__(self) -> None:
        super().__init__("This payment id was used for another reservation; a new payment needs an id of its own.")


class RefundRequired(EngineError):
    """Money came for a hold that has ended, and a line of it can't be had; or (no `lines`) another payment has paid for it.

    On record in the ledger; final for this payment id. `lines` has a verdict for every line.
    """

    code = "refund_required"

    def __init__(self, lines: tuple[MissingLine, ...]) -> None:
        refused = [f"{line.sku}: {line.verdict}" for line in lines if line.verdict != "ok"]
        why = "The hold had ended, and not every line can be had any more: " + ", ".join(refused)
        super().__init__(why if lines else "Another payment has paid for it.")
        self.lines = lines


class InvalidTransition(EngineError):
    code = "invalid_transition"


class ValidationFailed(EngineError):
    """Input that only the store could judge. `errors` maps a field to its messages."""

    code = "validation_failed"

    def __init__(self, errors: dict[str, list[str]]) -> None:
        super().__init__("; ".join(f"{field}: {' '.join(messages)}" for field, messages in errors.items()))
        self.errors = errors


class IdempotencyKeyReused(EngineError):
    code = "idempotency_key_reused"


class Closed(EngineError):
    """The recovery gate is shut: the store is empty, restored or promoted, and nobody has vouched for it yet."""

    code = "closed"


class StoreUnavailable(EngineError):
    """Redis, or for a commit Postgres, gave no answer. The call may have happened; repeating it with the same idempotency key is safe."""

    code = "store_unavailable"


class LedgerBroken(StoreUnavailable):
    """Redis and the ledger in Postgres don't tell one story, so nothing is written. `name` is a word for the runbook.

    `ledger_gap`: events are missing. `ledger_conflict`: the same event, or its place, has something else.
    `ledger_changed`: a row in Postgres isn't what was written. `ledger_unfoldable`: an event can't follow the ones before it.
    """

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name


class Inconsistent(EngineError):
    """Counters and holds don't agree, so the script refused to go on. `stockade verify` names what is off."""

    code = "inconsistent"


class ConfigurationError(Exception):
    """The service can't start like this. The message is one line and says what to do."""
