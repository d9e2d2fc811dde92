"""Does the state machine notice when a script is wrong? Each mutant breaks one of them on purpose, and must fail."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import Phase
from hypothesis.stateful import run_state_machine_as_test

from engine import scripts
from tests.unit.test_state_machine import Shopping, profile


@dataclass(frozen=True)
class Mutant:
    name: str
    script: str
    right: str
    wrong: str


MUTANTS = [
    Mutant(
        "reserve does not check the limit",
        "reserve",
        "if line.quantity > allowed then return 'limit_exceeded' end",
        "",
    ),
    Mutant(
        "a late commit does not check the stock",
        "commit",
        "if line.quantity <= line.available then return 'ok' end",
        "if line.quantity then return 'ok' end",
    ),
    Mutant(
        "release gives back one unit too few",
        "release",
        "available = counters[1] + quantity,",
        "available = counters[1] + quantity - 1,",
    ),
    Mutant(
        "extend goes past the cap",
        "extend",
        "math.min(now_ms + hold_ms, record[4] + 900000)",
        "now_ms + hold_ms",
    ),
    Mutant(
        "a second checkout starts the 900 seconds anew",
        "reserve",
        "tonumber(old[3] or now_ms)",
        "now_ms",
    ),
    Mutant(
        "expire keeps the limit to itself",
        "expire",
        "redis.call('HINCRBY', line.buyers_key, record[2], -line.quantity)",
        "redis.call('HINCRBY', line.buyers_key, record[2], 0)",
    ),
    Mutant(
        "a repeated commit empties the cart again",
        "empty_cart",
        "if redis.call('HEXISTS', cart_key, 'bought:' .. id) == 1 then return {'emptied'} end",
        "",
    ),
    Mutant(
        "a late commit does not check the limit",
        "commit",
        "then return 'limit_exceeded' end",
        "then line.free = 0 end",
    ),
    Mutant(
        "a late commit sells while selling is paused",
        "commit",
        "if sku[8] or meta[5] then return 'paused' end",
        "",
    ),
    Mutant(
        "a late commit does not count its buyer",
        "commit",
        "if not live then redis.call('HINCRBY', line.buyers_key, user, line.quantity - line.own) end",
        "",
    ),
    Mutant(
        "what a payment takes of a later checkout is not in the ledger",
        "commit",
        "if old[1] then emit('release', latest, old[3], '', 'paid', id, '') end",
        "",
    ),
    Mutant(
        "a payment pays for two reservations",
        "commit",
        "if (redis.call('GET', payment_key) or id) ~= id then return {'payment_already_used'} end",
        "",
    ),
    Mutant(
        "the event of a shipped part does not say that something is left",
        "fulfil",
        "'detail', state, ",
        "'detail', '', ",
    ),
    Mutant(
        "the event of an extension does not say for which call it was",
        "extend",
        "'counted', '*', 'operation', operation)",
        "'counted', '*', 'operation', '')",
    ),
    Mutant(
        "the start of a replaced hold is not in the event",
        "reserve",
        "fingerprint .. ' ' .. cart .. ' ' .. created",
        "fingerprint .. ' ' .. cart .. ' ' .. now",
    ),
    Mutant(
        "the default of operators counts for those who ask for a time, too",
        "reserve",
        "not asked and tonumber(meta[6] or '')",
        "tonumber(meta[6] or '')",
    ),
    Mutant(
        "a dry run of a release is no dry run",
        "release",
        "if lever == 'dry_run' then return {'would_release'} end",
        "",
    ),
    Mutant(
        "the event of a default hold doesn't say how long",
        "default_hold",
        "'detail', hold_ms,",
        "'detail', '',",
    ),
    Mutant(
        "a second payment is on record in the order, but not in its event",
        "refund",
        "'payment_id', payment_id,",
        "'payment_id', '',",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_state_machine_fails_on_a_mutant(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = dict(scripts.sources())
    assert sources[mutant.script].count(mutant.right) == 1
    sources[mutant.script] = sources[mutant.script].replace(mutant.right, mutant.wrong)
    monkeypatch.setattr(scripts, "sources", lambda: sorted(sources.items()))
    once = profile(5_000, derandomize=True, phases=(Phase.generate,), report_multiple_bugs=False)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Shopping, settings=once)
