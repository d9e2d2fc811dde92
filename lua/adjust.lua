-- adjust: stock comes in (restock) or goes out (withdraw) by delta; only available moves, and on_hand with it.
--
-- KEYS[1] meta         hash    gate, epoch, seq, clock_ms
-- KEYS[2] ledger       stream  one event per change, entry id <epoch>-<seq>
-- KEYS[3] sku          hash    counters and attributes
-- KEYS[4] operation    string  answer of this very call, so that sending it again changes nothing
-- ARGV[1] sku  ARGV[2] delta (units, not 0)  ARGV[3] actor  ARGV[4] request_id  ARGV[5] reason
-- ARGV[6] fingerprint  of the request
-- ARGV[7] keep_ms      milliseconds to keep the answer
-- ARGV[8] most         the largest on_hand a SKU may have
-- Returns, in order of precedence:
--   {'closed'}
--   {'wrong_keys'}                     KEYS[3] isn't that of ARGV[1]
--   {'idempotency_key_reused'}
--   {'replayed', 'adjusted', field, value ...}
--   {'not_found'}                      no such SKU
--   {'insufficient_stock', available}
--   {'on_hand_too_large', most}
--   {'adjusted', field, value ...}     the SKU's whole hash
-- Writes: ledger, meta, sku, operation
-- Emits: restock, or withdraw
-- By hand: redis-cli --eval lua/adjust.lua 'stk:{p0}:meta' 'stk:{p0}:ledger' 'stk:{p0}:sku:SKU' 'stk:{p0}:op:CALL' , SKU 10 ACTOR REQUEST REASON CALL 86400000 1000000000

local meta_key, ledger_key, sku_key, operation_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local sku, delta, actor, request_id, reason = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local fingerprint, keep_ms, most = ARGV[6], ARGV[7], tonumber(ARGV[8])

local meta = redis.call('HMGET', meta_key, 'gate', 'epoch', 'seq', 'clock_ms')
if meta[1] ~= 'open' then return {'closed'} end
local time = redis.call('TIME')
local now_ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(meta[4]))
if sku_key ~= string.sub(meta_key, 1, -5) .. 'sku:' .. sku then return {'wrong_keys'} end
local done = fingerprint ~= '' and redis.call('GET', operation_key)
if done then
  local space = string.find(done, ' ', 1, true)
  if string.sub(done, 1, space - 1) ~= fingerprint then return {'idempotency_key_reused'} end
  return {'replayed', unpack(cjson.decode(string.sub(done, space + 1)))}
end

local counters = redis.call('HMGET', sku_key, 'available', 'on_hand')
if not counters[1] then return {'not_found'} end
local available, on_hand = counters[1] + delta, counters[2] + delta
if available < 0 then return {'insufficient_stock', tonumber(counters[1])} end
if on_hand > most then return {'on_hand_too_large', most} end
local op, seq = delta > 0 and 'restock' or 'withdraw', string.format('%d', meta[3] + 1)
local operation = string.match(operation_key, ':op:(.*)') .. ' ' .. fingerprint

-- Nothing below this line can refuse.
redis.call('XADD', ledger_key, meta[2] .. '-' .. seq, 'op', op, 'at_ms', now_ms, 'actor', actor, 'user', '',
  'reservation_id', '', 'lines', sku .. '=' .. string.format('%d', math.abs(delta)), 'deadline_ms', '', 'payment_id', '',
  'reason', reason, 'request_id', request_id, 'detail', '',
  'counted', '*', 'operation', operation)
redis.call('HSET', meta_key, 'seq', seq, 'clock_ms', now_ms)
redis.call('HSET', sku_key, 'available', available, 'on_hand', on_hand)
local answer = {'adjusted', unpack(redis.call('HGETALL', sku_key))}
redis.call('SET', operation_key, fingerprint .. ' ' .. cjson.encode(answer), 'PX', keep_ms)
return answer
