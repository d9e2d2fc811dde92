-- close: shut the gate. Every script that moves stock answers 'closed' until open.lua has opened it again.
--
-- KEYS[1] meta         hash    gate, gate_reason, gate_token, restoring
-- ARGV[1] layout       version of the key layout this program knows
-- ARGV[2] token        of whoever closes it; only the last one who did may restore and open
-- ARGV[3] reason       why, for people
-- ARGV[4] restoring    1: everything else in meta is forgotten, because all of it comes back from the ledger; else 0
-- Returns, in order of precedence:
--   {'layout_unknown', layout}         written by a later version; nothing changed
--   {'shut'}
-- Writes: meta
-- Emits: nothing
-- By hand: redis-cli --eval lua/close.lua 'stk:{p0}:meta' , 2 ACTOR REASON 0

local meta_key, layout, token, reason, restoring = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'

local written = redis.call('HGET', meta_key, 'layout')
if written and tonumber(written) > tonumber(layout) then return {'layout_unknown', written} end

-- Nothing below this line can refuse.
if restoring then
  redis.call('DEL', meta_key)
  redis.call('HSET', meta_key, 'layout', layout, 'restoring', 1)
end
redis.call('HSET', meta_key, 'gate', 'closed', 'gate_reason', reason, 'gate_token', token)
return {'shut'}
