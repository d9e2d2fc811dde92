-- extend: move a live hold's deadline to now + hold_ms, never past created_ms + 900000.
--
-- KEYS[1] meta         hash    gate, epoch, seq, clock_ms, full_seq
-- KEYS[2] ledger       stream  one event per change, entry id <epoch>-<seq>
-- KEYS[3] deadlines    zset    reservation id -> deadline_ms, live holds only
-- KEYS[4] reservation  hash    the hold
-- KEYS[5] lease        string  gone at the deadline, which wakes the sweeper
-- KEYS[6] operation    string  answer of a call with this idempotency key
-- KEYS[7], [8] ... sku hash    one for each line, in the hold's order
-- ARGV[1] id  ARGV[2] actor  ARGV[3] request_id
-- ARGV[4] hold_ms      milliseconds from now, at most 900000
-- ARGV[5] fingerprint  of the request; '' to keep no answer
-- ARGV[6] keep_ms      milliseconds to keep the answer
-- Returns, in order of precedence:
--   {'closed'}                       also when as many events as allowed wait for Postgres
--   {'bad_request'}                  a hold_ms that is no whole number from 1
--   {'idempotency_key_reused'}
--   {'replayed', 'extended', deadline_ms}
--   {'not_found'}
--   {'reservation_expired'}
--   {'invalid_transition', state}
--   {'wrong_keys'}
--   {'extended', deadline_ms}
-- Writes: ledger, meta, sku (next_release_ms), reservation, lease, deadlines, operation
-- Emits: extend
-- By hand: redis-cli --eval lua/extend.lua 'stk:{p0}:meta' 'stk:{p0}:ledger' 'stk:{p0}:deadlines' 'stk:{p0}:rsv:ID' 'stk:{p0}:lease:ID' 'stk:{p0}:op:none' 'stk:{p0}:sku:SKU' , ID ACTOR REQUEST 300000 '' 0

local meta_key, ledger_key, deadlines_key, reservation_key, lease_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local operation_key, id, actor, request_id, hold_ms = KEYS[6], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local fingerprint, keep_ms = ARGV[5], ARGV[6]

local meta = redis.call('HMGET', meta_key, 'gate', 'epoch', 'seq', 'clock_ms', 'full_seq')
if meta[1] ~= 'open' then return {'closed'} end
local time = redis.call('TIME')
local now_ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(meta[4]))
if tonumber(meta[3]) >= tonumber(meta[5] or math.huge) then return {'closed'} end
if hold_ms < 1 or hold_ms % 1 ~= 0 then return {'bad_request'} end
local done = fingerprint ~= '' and redis.call('GET', operation_key)
if done then
  local space = string.find(done, ' ', 1, true)
  if string.sub(done, 1, space - 1) ~= fingerprint then return {'idempotency_key_reused'} end
  return {'replayed', unpack(cjson.decode(string.sub(done, space + 1)))}
end

local record = redis.call('HMGET', reservation_key, 'state', 'user', 'lines', 'created_ms', 'deadline_ms')
if not record[1] then return {'not_found'} end
local past = record[1] == 'reserved' and now_ms >= tonumber(record[5])
if past or record[1] == 'expired' then return {'reservation_expired'} end
if record[1] ~= 'reserved' then return {'invalid_transition', record[1]} end
local prefix, skus = string.sub(meta_key, 1, -5), 0
for sku in string.gmatch(record[3], '([^ =]+)=%d+') do
  skus = skus + 1
  if KEYS[6 + skus] ~= prefix .. 'sku:' .. sku then return {'wrong_keys'} end
end
if #KEYS ~= 6 + skus then return {'wrong_keys'} end
local deadline_ms = math.min(now_ms + hold_ms, record[4] + 900000)
local seq, answer = string.format('%d', meta[3] + 1), {'extended', deadline_ms}
local operation = fingerprint == '' and '' or string.match(operation_key, ':op:(.*)') .. ' ' .. fingerprint

-- Nothing below this line can refuse.
redis.call('XADD', ledger_key, meta[2] .. '-' .. seq, 'op', 'extend', 'at_ms', now_ms, 'actor', actor, 'user', record[2],
  'reservation_id', id, 'lines', record[3], 'deadline_ms', deadline_ms, 'payment_id', '', 'reason', '',
  'request_id', request_id, 'detail', '', 'counted', '*', 'operation', operation)
redis.call('HSET', meta_key, 'seq', seq, 'clock_ms', now_ms)
for i = 7, #KEYS do
  local next_release_ms = redis.call('HGET', KEYS[i], 'next_release_ms')
  if not next_release_ms or deadline_ms < tonumber(next_release_ms) then
    redis.call('HSET', KEYS[i], 'next_release_ms', deadline_ms)
  end
end
redis.call('HSET', reservation_key, 'deadline_ms', deadline_ms)
redis.call('SET', lease_key, 1, 'PX', math.max(deadline_ms - now_ms, 1))
redis.call('ZADD', deadlines_key, deadline_ms, id)
if fingerprint ~= '' then redis.call('SET', operation_key, fingerprint .. ' ' .. cjson.encode(answer), 'PX', keep_ms) end
return answer
