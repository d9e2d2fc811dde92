-- refund: put on record that a payment must be given back, because the reservation is paid for by another one.
--
-- KEYS[1] meta         hash    gate, epoch, seq, clock_ms
-- KEYS[2] ledger       stream  one event per change, entry id <epoch>-<seq>
-- KEYS[3] reservation  hash    the order
-- KEYS[4] payment      string  id of the reservation that this payment was for
-- ARGV[1] id  ARGV[2] payment_id  ARGV[3] actor  ARGV[4] request_id
-- ARGV[5] retain_ms    milliseconds to keep the payment's reservation
-- Returns, in order of precedence (epoch and seq as in commit.lua):
--   {'closed'}
--   {'not_found'}                      no such order
--   {'committed', epoch, seq}          this is the very payment that it is paid for with; nothing written
--   {'payment_already_used'}           the payment was for another reservation
--   {'refund_required', epoch, seq}    also when that was said before; then nothing is written
-- Writes: ledger, meta, reservation, payment
-- Emits: refund_required
-- By hand: redis-cli --eval lua/refund.lua 'stk:{p0}:meta' 'stk:{p0}:ledger' 'stk:{p0}:rsv:ID' 'stk:{p0}:payment:PAYMENT' , ID PAYMENT ACTOR REQUEST 86400000

local meta_key, ledger_key, reservation_key, payment_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, payment_id, actor, request_id, retain_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local meta = redis.call('HMGET', meta_key, 'gate', 'epoch', 'seq', 'clock_ms')
if meta[1] ~= 'open' then return {'closed'} end
local time = redis.call('TIME')
local now_ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(meta[4]))

local epoch = tonumber(meta[2])
local record = redis.call('HMGET', reservation_key, 'payment_id', 'user', 'refund:' .. payment_id)
if not record[1] then return {'not_found'} end
if record[1] == payment_id then return {'committed', epoch, tonumber(meta[3])} end
if record[3] then return {'refund_required', epoch, tonumber(meta[3])} end
if (redis.call('GET', payment_key) or id) ~= id then return {'payment_already_used'} end
local seq = string.format('%d', meta[3] + 1)

-- Nothing below this line can refuse.
redis.call('XADD', ledger_key, meta[2] .. '-' .. seq, 'op', 'refund_required', 'at_ms', now_ms, 'actor', actor,
  'user', record[2], 'reservation_id', id, 'lines', '', 'deadline_ms', '', 'payment_id', payment_id,
  'reason', 'already_committed', 'request_id', request_id, 'detail', '', 'counted', '*', 'operation', '')
redis.call('HSET', meta_key, 'seq', seq, 'clock_ms', now_ms)
redis.call('HSET', reservation_key, 'refund:' .. payment_id, '')
redis.call('SET', payment_key, id, 'PX', retain_ms)
return {'refund_required', epoch, tonumber(seq)}
