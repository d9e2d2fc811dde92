"""Mutants that no test can tell from the right thing, each with the reason. Another one that lives is a test that is missing."""

from __future__ import annotations

from dataclasses import dataclass

from tests.mutation.mutant import Mutant


@dataclass(frozen=True)
class Survivor:
    """`right` is found once in the changed lines (each run of blanks as one), and there becomes `wrong`."""

    path: str
    line: str
    right: str
    wrong: str
    why: str

    def is_of(self, mutant: Mutant, source: str) -> bool:
        assert self.line.count(self.right) == 1, self
        changed = (self.line, self.line.replace(self.right, self.wrong))
        return mutant.path == self.path and mutant.changed(source) == changed


TORN = "No record has one of these fields without the other; where it is torn, either answer is a guess."
NOT_BEFORE_1970 = "Without a deadline it is due either way: no clock says 0 or 1."
NO_MAGIC = "A blank means itself in a pattern, too."
A_FINGERPRINT = "It is only there after a fingerprint, of which the first character is no blank."
A_BLANK = "JSON may begin with a blank."
A_MILLISECOND = "At most a millisecond's difference, and the clock goes on meanwhile."
SAME_VALUE = "It is the same value that is written again."
AT_LEAST_ONE = "A hold that is not due ends a millisecond from now at the soonest: a guard, so that nothing fails after the ledger."
EVEN = "Arguments come in pairs, so the numbers beside it can't be."

CLOCK = "local now_ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(meta[4]))"
OPEN_CLOCK = CLOCK.replace("tonumber(meta[4]))", "tonumber(meta[5] or 0), tonumber(ARGV[7]))")
LEFT = "local left_ms = math.max(until_ms - time[1] * 1000 - math.floor(time[2] / 1000), 1)"
SPACE = "local space = string.find(done, ' ', 1, true)"
REPLAYED = "return {'replayed', unpack(cjson.decode(string.sub(done, space + 1)))}"
COMMIT_REPLAYED = REPLAYED.replace("'replayed', ", "'replayed', tonumber(meta[2]), tonumber(meta[3]), ")
WANTED = "local wanted = #ARGV < 8 and left or named[sku] or 0"
SOUND = "local sound = hold_ms >= 1 and hold_ms % 1 == 0 and #ARGV >= 12"
HOLD_MS = "local hold_ms = math.min(not asked and tonumber(meta[6] or '') or tonumber(ARGV[5]), 900000)"
FIRST = "local first = redis.call('ZRANGE', deadlines_key, 0, 0, 'WITHSCORES')"
ANY_DUE = "return first[2] and tonumber(first[2]) <= now_ms and 1 or 0"
MAY_RETURN = (
    "if may_return and line.next_release_ms > 0 and line.next_release_ms <= now_ms then answer[3] = any_due() end"
)
CREATED = "local created_ms, seq, replaced = tonumber(old[3] or now_ms), tonumber(meta[3]), old[1]"
EARLIER = "if line.next_release_ms == 0 or deadline_ms < line.next_release_ms then"
EARLIER_EXTENDED = "if not next_release_ms or deadline_ms < tonumber(next_release_ms) then"
LEASE = "redis.call('SET', lease_key, 1, 'PX', math.max(deadline_ms - now_ms, 1))"
DELTA = "local op, seq = delta > 0 and 'restock' or 'withdraw', string.format('%d', meta[3] + 1)"
SECONDS = "if hold_ms ~= '' and tonumber(seconds or 901) > 900 then return {'bad_request'} end"
IN_CART = "local wanted = tonumber(redis.call('HGET', cart_key, 'sku:' .. ARGV[i]) or 0)"
DUE = "if live and now_ms >= tonumber(record[4] or 0) then return {'due', now_ms} end"
RELEASE_DUE = "if now_ms >= tonumber(record[4] or 0) then return {'due', now_ms} end"
NOT_DUE = "if now_ms < tonumber(record[4] or 0) then return {'not_due', tonumber(record[4])} end"
TEXT = (
    "if kind == 'text' then redis.call('SET', key, ARGV[5]) "
    "elseif #ARGV > 4 then redis.call('HSET', key, unpack(ARGV, 5)) end"
)
STARTS = 'if read.now_ms < int(fields.get("sale_starts_ms", 0)):'
RELEASES = 'bounds = {sku: int(read.skus[sku].get("next_release_ms", 0)) for sku in held}'
NOT_IN_1970 = "No sale began, and no hold ended, in the first millisecond of 1970."
KEPT = "local kept = string.format('%d', meta[3] - seq + 1 + ARGV[3])"

SURVIVORS = (
    Survivor("engine/stock.py", RELEASES, '", 0)', '", 1)', NOT_IN_1970),
    Survivor("engine/stock.py", STARTS, '", 0)', '", 1)', NOT_IN_1970),
    Survivor("lua/adjust.lua", CLOCK, "time[2] / 1000", "time[2] / 999", A_MILLISECOND),
    Survivor("lua/adjust.lua", CLOCK, "time[2] / 1000", "time[2] / 1001", A_MILLISECOND),
    Survivor("lua/adjust.lua", SPACE, "1, true", "2, true", A_FINGERPRINT),
    Survivor("lua/adjust.lua", SPACE, "true", "false", NO_MAGIC),
    Survivor("lua/adjust.lua", REPLAYED, "space + 1", "space + 0", A_BLANK),
    Survivor("lua/adjust.lua", DELTA, "delta > 0", "delta >= 0", "A change by 0 units is refused before."),
    Survivor("lua/cancel.lua", WANTED, "< 8", "<= 8", EVEN),
    Survivor("lua/cancel.lua", WANTED, "< 8", "< 9", EVEN),
    Survivor("lua/commit.lua", SPACE, "1, true", "2, true", A_FINGERPRINT),
    Survivor("lua/commit.lua", SPACE, "true", "false", NO_MAGIC),
    Survivor("lua/commit.lua", COMMIT_REPLAYED, "space + 1", "space + 0", A_BLANK),
    Survivor("lua/commit.lua", "if record[5] then return {'already_committed'} end", "record[5]", "record[6]", TORN),
    Survivor("lua/commit.lua", DUE, "or 0", "or 1", NOT_BEFORE_1970),
    Survivor("lua/default_hold.lua", SECONDS, "901", "902", "Any number above 900 refuses what isn't whole seconds."),
    Survivor("lua/empty_cart.lua", IN_CART, "or 0", "or 1", "At least one unit was bought, so none is left of 1 or 0."),
    Survivor("lua/expire.lua", NOT_DUE, "or 0", "or 1", NOT_BEFORE_1970),
    Survivor("lua/extend.lua", "if not record[1] then return {'not_found'} end", "record[1]", "record[2]", TORN),
    Survivor("lua/extend.lua", EARLIER_EXTENDED, "deadline_ms < ", "deadline_ms <= ", SAME_VALUE),
    Survivor("lua/extend.lua", LEASE, "now_ms, 1)", "now_ms, 0)", AT_LEAST_ONE),
    Survivor("lua/extend.lua", LEASE, "now_ms, 1)", "now_ms, 2)", AT_LEAST_ONE),
    Survivor("lua/open.lua", OPEN_CLOCK, "meta[5] or 0", "meta[5] or 1", "It is 1970 either way, and later now."),
    Survivor("lua/open.lua", OPEN_CLOCK, "time[2] / 1000", "time[2] / 999", A_MILLISECOND),
    Survivor("lua/open.lua", OPEN_CLOCK, "time[2] / 1000", "time[2] / 1001", A_MILLISECOND),
    Survivor("lua/release.lua", RELEASE_DUE, "or 0", "or 1", NOT_BEFORE_1970),
    Survivor("lua/reserve.lua", HOLD_MS, "900000", "900001", "The deadline has the same cap, counted from the start."),
    Survivor("lua/reserve.lua", SOUND, "12", "11", EVEN),
    Survivor("lua/reserve.lua", FIRST, "0, 0", "0, 1", "Only the first of them is looked at."),
    Survivor("lua/reserve.lua", ANY_DUE, "first[2] and", "first[1] and", "A member has a score."),
    Survivor("lua/reserve.lua", MAY_RETURN, "> 0", "> 1", "Nothing ended in the first millisecond of 1970."),
    Survivor("lua/reserve.lua", CREATED, "old[1]", "old[2]", TORN),
    Survivor("lua/reserve.lua", EARLIER, "deadline_ms < ", "deadline_ms <= ", SAME_VALUE),
    Survivor("lua/restore.lua", LEFT, "time[2] / 1000", "time[2] / 999", A_MILLISECOND),
    Survivor("lua/restore.lua", LEFT, "time[2] / 1000", "time[2] / 1001", A_MILLISECOND),
    Survivor("lua/restore.lua", LEFT, "1000), 1)", "1000), 2)", A_MILLISECOND),
    Survivor("lua/restore.lua", TEXT, "> 4", "> 5", EVEN),
    Survivor(
        "lua/restore.lua",
        "if until_ms > 0 then redis.call('PEXPIRE', key, left_ms) end",
        "> 0",
        "> 1",
        "Nothing is kept until the first millisecond of 1970.",
    ),
    Survivor(
        "lua/trim.lua", KEPT, "+ 1", "+ 2", "One event more is kept; Redis lets go of whole nodes of a stream only."
    ),
)
