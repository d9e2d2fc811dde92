"""Defects that `make chaos` has to find, as changes of the product's text."""

from __future__ import annotations

from dataclasses import dataclass

from engine.invariants import Invariant


@dataclass(frozen=True)
class Change:
    path: str
    right: str
    wrong: str

    def planted(self, text: str) -> str:
        assert text.count(self.right) == 1, f"{self.path} has {text.count(self.right)} times: {self.right}"
        return text.replace(self.right, self.wrong)


@dataclass(frozen=True)
class Defect:
    """`breaks` are invariants of which one must name it. `faults` are those without which nobody could notice; none: any."""

    name: str
    changes: tuple[Change, ...]
    breaks: tuple[Invariant, ...]
    faults: tuple[str, ...] = ()
    seed: int = 1
    episodes: int = 2

    @property
    def options(self) -> list[str]:
        """Of `python -m tests.chaos.run`."""
        faults = [word for fault in self.faults for word in ("--fault", fault)]
        return ["--seed", str(self.seed), "--episodes", str(self.episodes), *faults]


NO_COMPARISON = Change(
    "engine/recovery.py",
    "if recovered.finding.need is not Need.REBUILD and (why := self._differs(finding))",
    "if (why := '')",
)

DEFECTS = [
    Defect(
        "a commit is answered before the ledger has it",
        (
            Change(
                "engine/durable.py",
                "        reached = self._round()\n",
                "        return\n        reached = self._round()\n",
            ),
        ),
        (Invariant.ACKNOWLEDGED,),
        ("redis_data_gone", "lagging_replica_promoted"),
    ),
    Defect(
        "a released hold's units don't come back",
        (Change("lua/release.lua", "available = counters[1] + quantity,", "available = counters[1],"),),
        (Invariant.CONSERVATION, Invariant.FOLD),
    ),
    Defect(
        "holds end two seconds early",
        (
            Change("lua/expire.lua", "now_ms < tonumber(record[4] or 0)", "now_ms + 2000 < tonumber(record[4] or 0)"),
            Change(
                "engine/expiry.py",
                '"-inf", self._store.now_ms(), PAGE, stuck)',
                '"-inf", self._store.now_ms() + 2000, PAGE, stuck)',
            ),
        ),
        (Invariant.RETURN_BOUND,),
    ),
    Defect(
        "holds end on no demand, and are swept once a minute",
        (
            Change(
                "engine/expiry.py",
                '        from_ms: int | str = "-inf"\n',
                '        return 0\n        from_ms: int | str = "-inf"\n',
            ),
            Change(
                "engine/expiry.py",
                '        page = self._store.holds("-inf"',
                "        if time.monotonic() < getattr(self, 'next_s', 0):\n            return Swept(0, stuck, False)\n"
                '        self.next_s = time.monotonic() + 60\n        page = self._store.holds("-inf"',
            ),
        ),
        (Invariant.NO_FALSE_REFUSAL, Invariant.RETURN_BOUND),
    ),
    Defect(
        "a repeated reserve makes a second reservation",
        (Change("engine/reservations.py", "self._ids.of(*words) if idempotency_key else random_id()", "random_id()"),),
        (Invariant.IDEMPOTENCY,),
    ),
    Defect(
        "what Redis lacks of the ledger is not put back",
        (
            Change(
                "engine/recovery.py",
                "recovered = self._put_back(token, finding, self._touched(finding))",
                "recovered = Recovered(finding, 0, 0)",
            ),
            NO_COMPARISON,
        ),
        (Invariant.FOLD, Invariant.NO_OVERSELL),
        ("aof_tail_cut", "lagging_replica_promoted"),
    ),
    Defect(
        "no live hold is put back",
        (
            Change("engine/recovery.py", "                restoring.hold(name, record)\n", "                pass\n"),
            NO_COMPARISON,
        ),
        (Invariant.HOLDS, Invariant.FOLD),
        ("aof_tail_cut", "redis_data_gone"),
    ),
    Defect(
        "a SKU comes back with one unit too many",
        (
            Change(
                "engine/recovery.py",
                "                    skus += 1\n",
                "                    skus += 1\n                    if name == 'chaos-07':\n"
                "                        content |= {key: str(int(content[key]) + 1) for key in ('available', 'on_hand')}\n",
            ),
        ),
        (Invariant.CONSERVATION, Invariant.FOLD),
        ("redis_data_gone", "flushall"),
    ),
    Defect(
        "what customers have of a SKU with a limit isn't put back",
        (Change("engine/recovery.py", "            restoring.buyers(name, content)\n", "            pass\n"),),
        (Invariant.LIMITS, Invariant.FOLD),
        ("redis_data_gone", "flushall"),
    ),
    Defect(
        "the writer leaves out one event of a thousand",
        (
            Change(
                "engine/writer.py",
                "            rows.append(",
                "            if position.seq % 1000 == 0:\n                continue\n            rows.append(",
            ),
        ),
        (Invariant.DENSE_LOG,),
    ),
    Defect(
        "any Redis whose gate stands open is sold from",
        (
            Change("engine/recovery.py", ' and meta.get("run_id") == self._store.run_id()', ""),
            Change(
                "engine/store.py",
                "if _run(connection.read_response()) != certified or layout != str(LAYOUT):",
                "if not _run(connection.read_response()):",
            ),
        ),
        (Invariant.ACKNOWLEDGED, Invariant.FOLD, Invariant.DENSE_LOG, Invariant.IDEMPOTENCY, Invariant.PREFIX),
        ("two_masters", "lagging_replica_promoted"),
    ),
    Defect(
        "of two masters both confirm payments",
        (
            Change(
                "engine/durable.py",
                "        reached = self._round()\n",
                "        return\n        reached = self._round()\n",
            ),
        ),
        (Invariant.ACKNOWLEDGED,),
        ("two_masters",),
    ),
    Defect(
        "the last unit is never sold",
        (
            Change(
                "lua/reserve.lua",
                "  if not sku[1] then return 'unknown_sku' end\n",
                "  if not sku[1] then return 'unknown_sku' end\n  if line.available == 1 then line.available = 0 end\n",
            ),
        ),
        (Invariant.NO_FALSE_REFUSAL, Invariant.EXPLAINED),
    ),
    Defect(
        "anybody may release a hold",
        (
            Change(
                "engine/reservations.py",
                "self._owned(find(reservation_id), None if anybody else origin.user)",
                "self._owned(find(reservation_id), None)",
            ),
        ),
        (Invariant.OWNERSHIP,),
    ),
    Defect(
        "a second payment is taken for an order that is paid",
        (Change("lua/commit.lua", "if record[5] then return {'already_committed'} end\n", ""),),
        (Invariant.IDEMPOTENCY, Invariant.LIFECYCLE),
    ),
    Defect(
        "a late payment is taken though the units are gone",
        (
            Change(
                "lua/commit.lua",
                "  if line.quantity <= line.available then return 'ok' end\n",
                "  if true then return 'ok' end\n",
            ),
        ),
        (Invariant.RANGE, Invariant.NO_OVERSELL),
    ),
    Defect(
        "a Redis that came back goes on in the old epoch",
        (
            Change(
                "engine/recovery.py",
                "epoch = max(reached.epoch, finding.redis.epoch) + 1",
                "epoch = max(reached.epoch, finding.redis.epoch)",
            ),
        ),
        (Invariant.FENCING,),
        ("redis_data_gone", "redis_killed"),
    ),
    Defect(
        "limits don't count what was bought before",
        (
            Change(
                "lua/reserve.lua",
                "    local has = (redis.call('HGET', line.buyers_key, user) or 0) - own.quantity\n",
                "    local has = 0\n",
            ),
        ),
        (Invariant.TERMS,),
    ),
    Defect(
        "a limit refuses one unit too early",
        (Change("lua/reserve.lua", "  if line.quantity > allowed then", "  if line.quantity >= allowed then"),),
        (Invariant.NO_FALSE_REFUSAL,),
    ),
    Defect(
        "a late payment ignores a pause",
        (Change("lua/commit.lua", "  if sku[8] or meta[5] then return 'paused' end\n", ""),),
        (Invariant.TERMS,),
    ),
    Defect(
        "one payment pays twice",
        (
            Change(
                "lua/commit.lua",
                "if (redis.call('GET', payment_key) or id) ~= id then return {'payment_already_used'} end\n",
                "",
            ),
            Change("engine/reservations.py", "                raise PaymentAlreadyUsed\n", "                pass\n"),
        ),
        (Invariant.PAYMENTS,),
    ),
    Defect(
        "partial fulfilment ships all",
        (Change("lua/fulfil.lua", "local wanted = #ARGV < 7 and left or named[sku] or 0", "local wanted = left"),),
        (Invariant.ACKNOWLEDGED, Invariant.REFUSED),
    ),
    Defect(
        "the successor whose units a payment has taken isn't released",
        (Change("lua/commit.lua", "  redis.call('HSET', old_key, 'state', 'released')\n", ""),),
        (Invariant.FOLD, Invariant.HOLDS, Invariant.DEADLINES),
    ),
]
