"""A history of calls as steps of counters, one counter for each SKU.

What is certain about a call becomes a `Step`; what isn't (it had no answer, a loss may have undone it, Redis's clock was
moved) a `Float`, which explains more than can have happened, and never less.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf

from loadtests.checker.attempts import Attempts, by_key, refusals
from loadtests.checker.counter import Float, Step
from loadtests.checker.history import Call, Loss, RefusedLine, Skew
from loadtests.checker.stock_told import OF_STOCK
from loadtests.checker.windows import Windows


@dataclass(frozen=True)
class Margins:
    """In milliseconds.

    `slack_ms`: how far a hold's end may be from the deadline that was told, as the buyers' clock goes. `promised_ms`: what was
    acknowledged so long before a loss may be lost. `lingers_ms`: a call without an answer happens by then, or never.
    `longest_hold_ms`: no hold lasts longer.
    """

    slack_ms: float = 50
    promised_ms: float = 1_000
    lingers_ms: float = inf
    longest_hold_ms: float = 900_000


@dataclass
class Operations:
    """All that happened to one SKU. `impossible` are answers that contradict themselves."""

    steps: list[Step] = field(default_factory=list)
    floats: list[Float] = field(default_factory=list)
    impossible: list[str] = field(default_factory=list)


@dataclass
class Hold:
    """One granted reservation: it took its units from `from_ms` to `until_ms`, until `deadline_ms` (0: not told)."""

    call: Call
    lines: dict[str, int]
    from_ms: float
    until_ms: float
    deadline_ms: int


class History:
    """Calls turned into `Operations`, by SKU."""

    def __init__(self, calls: Iterable[Call], losses: Sequence[Loss], skews: Sequence[Skew], margins: Margins) -> None:
        calls = list(calls)
        self.by_sku: defaultdict[str, Operations] = defaultdict(Operations)
        self._losses, self._skews, self._margins = losses, skews, margins
        self._unjudged = Windows((*losses, *skews), margins.promised_ms, margins.slack_ms)
        found = by_key(calls)
        self._of: dict[str, dict[str, list[Attempts]]] = {}
        for operation in ("commit", "release", "extend"):
            grouped = self._of[operation] = defaultdict(list)
            for attempts in found[operation]:
                grouped[attempts.reservation_id].append(attempts)
        for attempts in found["reserve"]:
            self._reserve(attempts)
        for call in calls:
            if (
                call.operation == "reserve"
                and call.refused
                and not self._unjudged.touch(call.invoked_ms, call.answered_ms)
            ):
                for line in call.refused:
                    self._refused(call, line)

    def _refused(self, call: Call, line: RefusedLine) -> None:
        """`available` is exact where stock is what lacks: what is due was ended before. Of a line that is ok, it is the least."""
        of_stock, words = line.verdict in OF_STOCK, f"{call.user} was told {line.sku} is {line.verdict}"
        if line.available < 0 or not (of_stock or line.verdict == "ok"):
            return
        words += (
            f", {line.available} of {line.requested} available, at {call.invoked_ms:.0f} to {call.answered_ms:.0f} ms"
        )
        if of_stock == (line.available >= line.requested) or (line.verdict == "insufficient") != (
            of_stock and line.available > 0
        ):
            self.by_sku[line.sku].impossible.append(words)
            return
        high = line.available if of_stock else inf
        step = Step(call.invoked_ms, call.answered_ms, 0, line.available, high, words)
        self.by_sku[line.sku].steps.append(step)

    def _reserve(self, attempts: Attempts) -> None:
        holds = list(self._holds(attempts))
        for hold in holds:
            for sku, units in hold.lines.items():
                words = f"{attempts.user} was given {units} {sku} at {hold.from_ms:.0f} to {hold.until_ms:.0f} ms"
                self.by_sku[sku].steps.append(Step(hold.from_ms, hold.until_ms, -units, units, inf, words))
        for hold in holds[:-1]:
            # The same call was granted again, so this one was lost.
            self._float(hold.lines, 1, hold.from_ms, hold.deadline_ms + self._margins.slack_ms, surely=True)
        if holds:
            self._end(holds[-1])
        if attempts.unknown:
            self._unclear(attempts, bool(holds))

    def _holds(self, attempts: Attempts) -> Iterable[Hold]:
        """One, or one more after each loss that took it: then the repeat is told another deadline, which no extension gave it."""
        by_deadline: dict[int, list[Call]] = defaultdict(list)
        for call in sorted(attempts.ok, key=lambda each: each.answered_ms):
            first = next(iter(by_deadline.values()))[0] if by_deadline else call
            if not by_deadline or call.deadline_ms in by_deadline or self._lossy(first.invoked_ms, call.answered_ms):
                by_deadline[call.deadline_ms].append(call)
        unclear_ms = min((call.invoked_ms for call in attempts.unknown), default=inf)
        for deadline_ms, calls in by_deadline.items():
            from_ms = min(unclear_ms, *(call.invoked_ms for call in calls), inf)
            yield Hold(calls[0], dict(attempts.basket[1]), from_ms, calls[0].answered_ms, deadline_ms)

    def _unclear(self, attempts: Attempts, granted: bool) -> None:
        """Units that an attempt without an answer may have taken beside what was granted, and their way back."""
        from_ms = min(call.invoked_ms for call in attempts.unknown)
        until_ms = max(call.invoked_ms for call in attempts.unknown) + self._margins.lingers_ms
        latest_ms = max([until_ms, *(call.answered_ms for call in attempts.ok)])
        first_ms = min([from_ms, *(call.invoked_ms for call in attempts.ok)])
        lost = any(loss.from_ms <= latest_ms and loss.until_ms >= first_ms for loss in self._losses)
        if granted and not lost:
            return
        if not lost:
            # Had it happened before the refusal was decided, this would have been its repeat.
            from_ms = max([from_ms, *(call.invoked_ms for call in attempts.refused if call.refused)])
        if from_ms <= until_ms:
            lines = dict(attempts.basket[1])
            back_ms = until_ms + self._margins.longest_hold_ms + self._margins.slack_ms
            self._float(lines, -1, from_ms, until_ms, back_ms=back_ms)

    def _end(self, hold: Hold) -> None:
        """What comes of the latest hold of a call: it is paid for, given back, runs out, or is lost."""
        name, slack_ms, lingers_ms = hold.call.reservation_id, self._margins.slack_ms, self._margins.lingers_ms
        paid = [attempts.ok for attempts in self._of["commit"][name] if attempts.ok]
        unclear = [attempts for attempts in self._of["commit"][name] if attempts.unknown and not attempts.ok]
        kept = any(not call.late for calls in paid for call in calls)
        from_ms, until_ms, sure = self._runs_out(hold)
        released = [attempts for attempts in self._of["release"][name] if attempts.ok or attempts.unknown]
        for attempts in released:
            invoked_ms = min(call.invoked_ms for call in (*attempts.ok, *attempts.unknown))
            if attempts.ok:
                answered_ms = min(call.answered_ms for call in attempts.ok)
                if self._lossy(invoked_ms, answered_ms) and answered_ms < until_ms:
                    after_ms = self._after_loss(invoked_ms, answered_ms)
                    self._float(hold.lines, -1, invoked_ms, after_ms, back_ms=until_ms)
                until_ms = min(until_ms, answered_ms)
            else:
                sure = False
            from_ms = min(from_ms, invoked_ms)
        if kept:
            if released:
                self._float(hold.lines, 1, from_ms, until_ms + lingers_ms)
                self._float(hold.lines, -1, from_ms, until_ms + lingers_ms)
            return
        if not any(attempts.ok for attempts in released) and self._lossy(hold.from_ms, hold.until_ms):
            from_ms, sure = min(from_ms, hold.from_ms), False
        if unclear:
            last_ms = max(call.invoked_ms for attempts in unclear for call in attempts.unknown) + lingers_ms
            self._float(hold.lines, 1, from_ms, max(until_ms, last_ms))
            self._float(hold.lines, -1, from_ms, max(until_ms, last_ms))
        elif sure:
            for sku, units in hold.lines.items():
                words = f"{units} {sku} of {hold.call.user} came back at {from_ms:.0f} to {until_ms:.0f} ms"
                self.by_sku[sku].steps.append(Step(from_ms, until_ms, units, -inf, inf, words))
        else:
            self._float(hold.lines, 1, from_ms, until_ms, surely=True)
        for calls in paid:
            self._paid_late(hold, calls)
        self._not_to_be_had(hold, until_ms + slack_ms)

    def _paid_late(self, hold: Hold, calls: Sequence[Call]) -> None:
        from_ms, until_ms = min(call.invoked_ms for call in calls), min(call.answered_ms for call in calls)
        for attempts in self._of["commit"][hold.call.reservation_id]:
            if attempts.key == calls[0].key:
                from_ms = min([from_ms, *(call.invoked_ms for call in attempts.unknown)])
        for sku, units in hold.lines.items():
            words = f"{hold.call.user} paid late for {units} {sku} at {from_ms:.0f} to {until_ms:.0f} ms"
            self.by_sku[sku].steps.append(Step(from_ms, until_ms, -units, units, inf, words))

    def _not_to_be_had(self, hold: Hold, ended_ms: float) -> None:
        """A payment that must be refunded found too few units of the lines that stock was short of, if its hold had ended by then."""
        for refusal in refusals((), self._of["commit"][hold.call.reservation_id]):
            from_ms, until_ms = refusal.from_ms, refusal.until_ms
            if from_ms <= ended_ms or self._unjudged.touch(from_ms, until_ms):
                continue
            for line in refusal.call.refused:
                if line.verdict in OF_STOCK:
                    units = line.requested
                    words = f"{hold.call.user} was refused a late payment of {units} {line.sku} at {from_ms:.0f} to {until_ms:.0f} ms"
                    self.by_sku[line.sku].steps.append(Step(from_ms, until_ms, 0, -inf, units - 1, words))

    def _runs_out(self, hold: Hold) -> tuple[float, float, bool]:
        """From when until when the hold runs out; and whether its units come back in between all at once."""
        margins = self._margins
        deadlines, sure, answered_ms, unclear_ms = [hold.deadline_ms], bool(hold.deadline_ms), hold.until_ms, inf
        ordered = [call for attempts in self._of["extend"][hold.call.reservation_id] for call in attempts.ok]
        for call in sorted(ordered, key=lambda each: each.answered_ms):
            doubtful = call.invoked_ms <= answered_ms or self._lossy(call.invoked_ms, call.answered_ms)
            deadlines = [*deadlines, call.deadline_ms] if doubtful else [call.deadline_ms]
            answered_ms = call.answered_ms
        for attempts in self._of["extend"][hold.call.reservation_id]:
            if attempts.unknown and not attempts.ok:
                sure, unclear_ms = False, min(unclear_ms, *(call.invoked_ms for call in attempts.unknown), inf)
        sure = sure and len(deadlines) == 1
        from_ms, until_ms = min(deadlines) - margins.slack_ms, max(deadlines) + margins.slack_ms
        if unclear_ms < inf or not hold.deadline_ms:
            from_ms = hold.from_ms
            until_ms = hold.until_ms + margins.longest_hold_ms + margins.slack_ms
        for skew in self._skews:
            if skew.until_ms >= hold.from_ms and skew.from_ms <= until_ms:
                from_ms, sure = min(from_ms, max(skew.from_ms, hold.from_ms)), False
                until_ms = max(until_ms, skew.until_ms + margins.slack_ms)
        return from_ms, until_ms, sure

    def _lossy(self, from_ms: float, until_ms: float) -> bool:
        """Whether what was done and acknowledged between may be lost."""
        return any(
            until_ms > loss.from_ms - self._margins.promised_ms and from_ms < loss.until_ms for loss in self._losses
        )

    def _after_loss(self, from_ms: float, until_ms: float) -> float:
        """When the last loss that may have undone it was over."""
        return max(
            loss.until_ms + self._margins.slack_ms
            for loss in self._losses
            if until_ms > loss.from_ms - self._margins.promised_ms and from_ms < loss.until_ms
        )

    def _float(
        self,
        lines: dict[str, int],
        sign: int,
        from_ms: float,
        until_ms: float,
        *,
        surely: bool = False,
        back_ms: float = 0,
    ) -> None:
        for sku, units in lines.items():
            each = Float(from_ms, max(from_ms, until_ms), sign * units, surely, back_ms)
            self.by_sku[sku].floats.append(each)
