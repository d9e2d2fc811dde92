-- open: certify this server and open the gate, once somebody has compared its content with the ledger in Postgres.
--
-- KEYS[1] meta         hash    layout, gate, gate_token, run_id, epoch, seq, clock_ms
-- KEYS[2] ledger       stream  one event per change, entry id <epoch>-<seq>
-- ARGV[1] layout       version of the key layout this program knows
-- ARGV[2] token        with which the gate was closed
-- ARGV[3] run_id       of this server, and its master_replid, from INFO: run_id:master_replid
-- ARGV[4] epoch        of what is sold from now on
-- ARGV[5] seq          of the last event that Postgres has; what is here goes exactly so far
-- ARGV[6] chain        '<epoch>-<seq> <chain hash>' of that event; '' if there is none
-- ARGV[7] clock_ms     the latest time in the ledger
-- ARGV[8] actor  ARGV[9] reason  how it came to be closed and what was done
-- ARGV[10] paused  ARGV[11] selling_reason   the global stop as the ledger has it; '' and '' if it isn't on
-- ARGV[12] default_hold_ms   as the ledger has it; '' if none is set
-- Returns, in order of precedence:
--   {'layout_unknown', layout}         written by another version; nothing changed
--   {'taken_over'}                     the gate was closed by somebody else since, or is open; nothing changed
--   {'ahead', seq}                     here are events that Postgres lacks; nothing changed
--   {'opened', epoch, seq}
-- Writes: meta, ledger
-- Emits: open, unless there is no event yet. Its detail is the chain that it goes on from, so that nothing else can
--   be put behind the ledger by mistake.
-- By hand: redis-cli --eval lua/open.lua 'stk:{p0}:meta' 'stk:{p0}:ledger' , 2 ACTOR RUN 1 0 '' 0 ACTOR REASON '' '' ''

local meta_key, ledger_key, layout, token, run_id, epoch = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local seq, chain, actor, reason, paused, selling_reason = tonumber(ARGV[5]), ARGV[6], ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local default_hold_ms = ARGV[12]

local meta = redis.call('HMGET', meta_key, 'layout', 'gate', 'gate_token', 'seq', 'clock_ms')
if meta[1] and meta[1] ~= layout then return {'layout_unknown', meta[1]} end
if meta[2] ~= 'closed' or meta[3] ~= token then return {'taken_over'} end
if tonumber(meta[4] or 0) > seq then return {'ahead', tonumber(meta[4])} end
local time = redis.call('TIME')
local now_ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(meta[5] or 0), tonumber(ARGV[7]))
if chain ~= '' then seq = seq + 1 end

-- Nothing below this line can refuse.
if chain ~= '' then
  redis.call('XADD', ledger_key, epoch .. '-' .. string.format('%d', seq), 'op', 'open', 'at_ms', now_ms, 'actor', actor,
    'user', '', 'reservation_id', '', 'lines', '', 'deadline_ms', '', 'payment_id', '', 'reason', reason,
    'request_id', '', 'detail', chain, 'counted', '*', 'operation', '')
end
redis.call('HSET', meta_key, 'layout', layout, 'gate', 'open', 'run_id', run_id, 'epoch', epoch,
  'seq', string.format('%d', seq), 'clock_ms', now_ms)
redis.call('HDEL', meta_key, 'gate_reason', 'gate_token', 'restoring', 'full_seq')
if paused ~= '' then redis.call('HSET', meta_key, 'selling_paused', 1) else redis.call('HDEL', meta_key, 'selling_paused') end
redis.call('HSET', meta_key, 'selling_reason', selling_reason)
if default_hold_ms ~= '' then redis.call('HSET', meta_key, 'default_hold_ms', default_hold_ms) else redis.call('HDEL', meta_key, 'default_hold_ms') end
return {'opened', tonumber(epoch), seq}
