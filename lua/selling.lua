-- selling: the global stop. While selling is paused nothing can be reserved; holds can still be paid for.
--
-- KEYS[1] meta         hash    gate, epoch, seq, clock_ms, selling_paused, selling_reason
-- KEYS[2] ledger       stream  one event per change, entry id <epoch>-<seq>
-- ARGV[1] paused       1 or 0
-- ARGV[2] reason  ARGV[3] actor  ARGV[4] request_id
-- ARGV[5] lever        do; or dry_run: check everything, write nothing
-- Returns, in order of precedence:
--   {'closed'}
--   {'reason_required'}                whoever stops a shop, or lets it go on, says why
--   {'bad_request'}                    a lever that is neither
--   {'would_set'}                      a dry run
--   {'set'}                            also when it was so already; then nothing is written, and a dry run says so, too
-- Writes: ledger, meta
-- Emits: pause, or resume
-- By hand: redis-cli --eval lua/selling.lua 'stk:{p0}:meta' 'stk:{p0}:ledger' , 1 REASON ACTOR REQUEST do

local meta_key, ledger_key = KEYS[1], KEYS[2]
local paused, reason, actor, request_id, lever = ARGV[1] == '1', ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local meta = redis.call('HMGET', meta_key, 'gate', 'epoch', 'seq', 'clock_ms')
if meta[1] ~= 'open' then return {'closed'} end
local time = redis.call('TIME')
local now_ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(meta[4]))
if not string.find(reason or '', '%S') then return {'reason_required'} end
if lever ~= 'do' and lever ~= 'dry_run' then return {'bad_request'} end

local before = redis.call('HMGET', meta_key, 'selling_paused', 'selling_reason')
if (before[1] and true or false) == paused and (before[2] or '') == reason then return {'set'} end
local seq = string.format('%d', meta[3] + 1)
if lever == 'dry_run' then return {'would_set'} end

-- Nothing below this line can refuse.
redis.call('XADD', ledger_key, meta[2] .. '-' .. seq, 'op', paused and 'pause' or 'resume', 'at_ms', now_ms, 'actor', actor,
  'user', '', 'reservation_id', '', 'lines', '', 'deadline_ms', '', 'payment_id', '', 'reason', reason,
  'request_id', request_id, 'detail', '', 'counted', '*', 'operation', '')
redis.call('HSET', meta_key, 'seq', seq, 'clock_ms', now_ms, 'selling_reason', reason)
if paused then redis.call('HSET', meta_key, 'selling_paused', 1) else redis.call('HDEL', meta_key, 'selling_paused') end
return {'set'}
