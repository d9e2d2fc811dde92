-- note: put on record what a payment provider has told of an attempt to pay, which moves no stock.
--
-- KEYS[1] meta         hash    gate, epoch, seq, clock_ms
-- KEYS[2] ledger       stream  one event per change, entry id <epoch>-<seq>
-- KEYS[3] reservation  hash    the reservation, whatever its state, if it is known
-- KEYS[4] operation    string  answer of this very message, which the provider may send again
-- ARGV[1] id  ARGV[2] payment_id  ARGV[3] actor  ARGV[4] request_id
-- ARGV[5] told         the provider's word, such as payment.failed
-- ARGV[6] fingerprint  of the message; '' to keep no answer
-- ARGV[7] keep_ms      milliseconds to keep the answer
-- Returns, in order of precedence (epoch and seq as in commit.lua):
--   {'closed'}
--   {'idempotency_key_reused'}
--   {'replayed', epoch, seq, 'noted' or 'unknown_reservation'}
--   {'unknown_reservation', epoch, seq}   no reservation has this id; only the event is written
--   {'noted', epoch, seq}
-- Writes: ledger, meta, reservation (attempt:<payment_id>; attempt, if this payment id is told of for the first time), operation
-- Emits: note, or unknown_reservation
-- By hand: redis-cli --eval lua/note.lua 'stk:{p0}:meta' 'stk:{p0}:ledger' 'stk:{p0}:rsv:ID' 'stk:{p0}:op:none' , ID PAYMENT ACTOR REQUEST payment.failed '' 0

local meta_key, ledger_key, reservation_key, operation_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, payment_id, actor, request_id, told = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local fingerprint, keep_ms = ARGV[6], ARGV[7]

local meta = redis.call('HMGET', meta_key, 'gate', 'epoch', 'seq', 'clock_ms')
if meta[1] ~= 'open' then return {'closed'} end
local time = redis.call('TIME')
local now_ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(meta[4]))
local done = fingerprint ~= '' and redis.call('GET', operation_key)
if done then
  local space = string.find(done, ' ', 1, true)
  if string.sub(done, 1, space - 1) ~= fingerprint then return {'idempotency_key_reused'} end
  return {'replayed', tonumber(meta[2]), tonumber(meta[3]), unpack(cjson.decode(string.sub(done, space + 1)))}
end

local user = redis.call('HGET', reservation_key, 'user')
local op, status = user and 'note' or 'unknown_reservation', user and 'noted' or 'unknown_reservation'
local seq = string.format('%d', meta[3] + 1)
local operation = fingerprint == '' and '' or string.match(operation_key, ':op:(.*)') .. ' ' .. fingerprint

-- Nothing below this line can refuse.
redis.call('XADD', ledger_key, meta[2] .. '-' .. seq, 'op', op, 'at_ms', now_ms, 'actor', actor, 'user', user or '',
  'reservation_id', id, 'lines', '', 'deadline_ms', '', 'payment_id', payment_id, 'reason', '',
  'request_id', request_id, 'detail', told, 'counted', '*', 'operation', operation)
redis.call('HSET', meta_key, 'seq', seq, 'clock_ms', now_ms)
if user and redis.call('HSETNX', reservation_key, 'attempt:' .. payment_id, 1) == 1 then
  redis.call('HSET', reservation_key, 'attempt', payment_id)
end
if fingerprint ~= '' then redis.call('SET', operation_key, fingerprint .. ' ' .. cjson.encode({status}), 'PX', keep_ms) end
return {status, tonumber(meta[2]), tonumber(seq)}
