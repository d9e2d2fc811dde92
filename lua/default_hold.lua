-- default_hold: how long is held for those who ask for no time, at once and in every process. Live holds keep theirs.
--
-- KEYS[1] meta         hash    gate, epoch, seq, clock_ms, default_hold_ms
-- KEYS[2] ledger       stream  one event per change, entry id <epoch>-<seq>
-- ARGV[1] hold_ms      whole seconds in milliseconds, 1000 to 900000; '' clears it: what each process was started with counts again
-- ARGV[2] reason  ARGV[3] actor  ARGV[4] request_id
-- ARGV[5] lever        do; or dry_run: check everything, write nothing
-- Returns, in order of precedence:
--   {'closed'}
--   {'reason_required'}                whoever changes it says why
--   {'bad_request'}                    a lever that is neither, or a hold_ms that isn't like that
--   {'would_set'}                      a dry run
--   {'set'}                            also when it was so already; then nothing is written, and a dry run says so, too
-- Writes: ledger, meta
-- Emits: default_hold; its detail is hold_ms
-- By hand: redis-cli --eval lua/default_hold.lua 'stk:{p0}:meta' 'stk:{p0}:ledger' , 60000 REASON ACTOR REQUEST do

local meta_key, ledger_key = KEYS[1], KEYS[2]
local hold_ms, reason, actor, request_id, lever = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local meta = redis.call('HMGET', meta_key, 'gate', 'epoch', 'seq', 'clock_ms')
if meta[1] ~= 'open' then return {'closed'} end
local time = redis.call('TIME')
local now_ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(meta[4]))
if not string.find(reason or '', '%S') then return {'reason_required'} end
if lever ~= 'do' and lever ~= 'dry_run' then return {'bad_request'} end
local seconds = string.match(hold_ms, '^([1-9]%d?%d?)000$')
if hold_ms ~= '' and tonumber(seconds or 901) > 900 then return {'bad_request'} end

if (redis.call('HGET', meta_key, 'default_hold_ms') or '') == hold_ms then return {'set'} end
local seq = string.format('%d', meta[3] + 1)
if lever == 'dry_run' then return {'would_set'} end

-- Nothing below this line can refuse.
redis.call('XADD', ledger_key, meta[2] .. '-' .. seq, 'op', 'default_hold', 'at_ms', now_ms, 'actor', actor, 'user', '',
  'reservation_id', '', 'lines', '', 'deadline_ms', '', 'payment_id', '', 'reason', reason,
  'request_id', request_id, 'detail', hold_ms, 'counted', '*', 'operation', '')
redis.call('HSET', meta_key, 'seq', seq, 'clock_ms', now_ms)
if hold_ms == '' then redis.call('HDEL', meta_key, 'default_hold_ms') else redis.call('HSET', meta_key, 'default_hold_ms', hold_ms) end
return {'set'}
