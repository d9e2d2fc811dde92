"""What buyers remember of their own checkouts: the side of the story that the service can't tell.

Times are milliseconds of the service's clock. Workers of a distributed run send theirs to the master as JSON.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

Lines = dict[str, int]
"""SKU and units."""

BOT_PLAN = "bot"
"""The plan of checkouts that no honest buyer makes."""

PAYMENT_REFUSALS = ("already_committed", "payment_already_used", "refund_required")
"""Codes of 409 that answer a payment."""

MAX_IN_MESSAGE = 5_000
"""Checkouts or refusals in one message to the master."""


@dataclass
class Checkout:
    """One buyer's checkout. `unknown`: an answer never came, so the effect may or may not be there."""

    reservation_id: str = ""
    lines: Lines = field(default_factory=dict)
    plan: str = ""
    user: str = ""
    at_ms: int = 0
    deadline_ms: int = 0
    paid: bool = False
    unknown: bool = False


@dataclass
class Payment:
    """One payment of one reservation. `outcomes`: every different answer that its tellings got."""

    reservation_id: str
    payment_id: str
    outcomes: list[str] = field(default_factory=list)
    unknown: bool = False

    def told(self, outcome: str) -> None:
        if outcome not in self.outcomes:
            self.outcomes.append(outcome)

    def refused(self, code: str) -> bool:
        """Take in a refusal. Returns: False if no payment is refused so; whether this one was rightly is judged."""
        if code in PAYMENT_REFUSALS:
            self.told(code)
        return code in PAYMENT_REFUSALS


@dataclass
class Refusal:
    """A reservation that was refused between two moments: the call left not before the first, and came back by the last.

    `lines`: SKU, units asked for, verdict, and the promised next release (0 without one).
    """

    from_ms: float
    until_ms: float
    user: str
    lines: list[tuple[str, int, str, int]]


Timings = dict[tuple[str, int], Counter[float]]
"""Name of the call and second (unix) it was made in -> milliseconds it took, to three digits -> how often."""


@dataclass
class Records:
    """All checkouts of one run. `problems` are answers that should not have been possible.

    `counts`: `errors` are calls that were given up, or answered as they should not be; `repeated` are calls made once
    more with the same idempotency key because no answer came or a 5xx; `throttled` are answers 429.
    """

    checkouts: list[Checkout] = field(default_factory=list)
    payments: list[Payment] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    timings: Timings = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def reserved(self) -> list[Checkout]:
        return [checkout for checkout in self.checkouts if checkout.reservation_id]

    @property
    def bots(self) -> set[str]:
        """Users who are no honest buyers."""
        return {checkout.user for checkout in self.checkouts if checkout.plan == BOT_PLAN}

    @property
    def unknown(self) -> int:
        return sum(checkout.unknown for checkout in self.checkouts) + sum(each.unknown for each in self.payments)

    @property
    def verdicts(self) -> Counter[str]:
        """Lines that honest buyers could not have, by verdict."""
        bots = self.bots
        honest = (refusal for refusal in self.refusals if refusal.user not in bots)
        return Counter(line[2] for refusal in honest for line in refusal.lines if line[2] != "ok")

    def sold(self) -> Counter[str]:
        """Units that buyers were told they bought, by SKU."""
        units: Counter[str] = Counter()
        for checkout in self.checkouts:
            if checkout.paid:
                units.update(checkout.lines)
        return units

    def unclear(self) -> Counter[str]:
        """Units that may have been bought or not, since the answer to their payment never came, by SKU."""
        unanswered = {each.reservation_id for each in self.payments if each.unknown}
        units: Counter[str] = Counter()
        for checkout in self.reserved:
            if checkout.reservation_id in unanswered and not checkout.paid:
                units.update(checkout.lines)
        return units

    @property
    def tally(self) -> dict[str, int]:
        """What is told of a run that goes on."""
        accepted = sum(bool(checkout.reservation_id) for checkout in self.checkouts)
        return {"accepted": accepted, "refused": len(self.refusals), "errors": self.counts["errors"]}

    def timed(self, name: str, made_ms: float, took_ms: float) -> None:
        took = self.timings.setdefault((name, int(made_ms // 1000)), Counter())
        took[float(f"{took_ms:.3g}")] += 1

    def messages(self) -> Iterator[str]:
        """All of it, in pieces that fit into messages. At least one."""
        yield json.dumps(
            {
                "counts": self.counts,
                "problems": self.problems,
                "timings": [[name, second, list(took.items())] for (name, second), took in self.timings.items()],
            }
        )
        for name in ("checkouts", "payments", "refusals"):
            each = getattr(self, name)
            for start in range(0, len(each), MAX_IN_MESSAGE):
                piece = [dataclasses.astuple(one) for one in each[start : start + MAX_IN_MESSAGE]]
                yield json.dumps({name: piece})

    def add(self, message: str) -> None:
        """Take in one of the `messages` of a worker."""
        document = json.loads(message)
        self.checkouts += [Checkout(*values) for values in document.get("checkouts", ())]
        self.payments += [Payment(*values) for values in document.get("payments", ())]
        for from_ms, until_ms, user, lines in document.get("refusals", ()):
            self.refusals.append(Refusal(from_ms, until_ms, user, [tuple(line) for line in lines]))
        self.counts.update(document.get("counts", {}))
        self.problems += document.get("problems", ())
        for name, second, took in document.get("timings", ()):
            self.timings.setdefault((name, second), Counter()).update(dict(map(tuple, took)))
