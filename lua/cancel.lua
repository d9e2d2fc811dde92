-- cancel: allocated units of an order return to available, all that are left of it or the lines named.
--
-- KEYS[1] meta         hash    gate, epoch, seq, clock_ms
-- KEYS[2] ledger       stream  one event per change, entry id <epoch>-<seq>
-- KEYS[3] reservation  hash    the order
-- KEYS[4] operation    string  answer of a call with this idempotency key
-- KEYS[5], [7] ... sku     hash  counters, one for each line, in the order's order
-- KEYS[6], [8] ... buyers  hash  user -> units held and bought since ever
-- ARGV[1] id  ARGV[2] actor  ARGV[3] request_id  ARGV[4] reason
-- ARGV[5] fingerprint  of the request; '' to keep no answer
-- ARGV[6] keep_ms      milliseconds to keep the answer
-- ARGV[7] retain_ms    milliseconds to keep the record after its end
-- ARGV[8], [10] ... sku  ARGV[9], [11] ... quantity  what to cancel; none: all that is left
-- Returns, in order of precedence (fulfilled and cancelled as 'sku=quantity ...': all that was ever shipped and called off):
--   {'closed'}
--   {'idempotency_key_reused'}
--   {'replayed', 'cancelled', state, fulfilled, cancelled}
--   {'not_found'}                      no such order
--   {'cancelled', state, fulfilled, cancelled}   it was wholly cancelled before; nothing written
--   {'invalid_transition', state}
--   {'wrong_keys'}                     this and the next two line by line
--   {'not_in_order', sku}              it isn't, fewer are left than named, or the quantity is no count; nothing written
--   {'inconsistent', sku}              allocated is less than the order; nothing written
--   {'cancelled', state, fulfilled, cancelled}   state is fulfilled if nothing is left to ship and some of it was shipped
-- Writes: ledger, meta, sku, buyers, reservation, operation
-- Emits: cancel
-- By hand: redis-cli --eval lua/cancel.lua 'stk:{p0}:meta' 'stk:{p0}:ledger' 'stk:{p0}:rsv:ID' 'stk:{p0}:op:none' 'stk:{p0}:sku:SKU' 'stk:{p0}:buyers:SKU' , ID ACTOR REQUEST REASON '' 0 86400000

local meta_key, ledger_key, reservation_key, operation_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, actor, request_id, reason = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local fingerprint, keep_ms, retain_ms = ARGV[5], ARGV[6], ARGV[7]

local meta = redis.call('HMGET', meta_key, 'gate', 'epoch', 'seq', 'clock_ms')
if meta[1] ~= 'open' then return {'closed'} end
local time = redis.call('TIME')
local now_ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(meta[4]))
local done = fingerprint ~= '' and redis.call('GET', operation_key)
if done then
  local space = string.find(done, ' ', 1, true)
  if string.sub(done, 1, space - 1) ~= fingerprint then return {'idempotency_key_reused'} end
  return {'replayed', unpack(cjson.decode(string.sub(done, space + 1)))}
end

local record = redis.call('HMGET', reservation_key, 'state', 'user', 'lines', 'payment_id', 'cancelled', 'fulfilled')
if not record[4] then return {'not_found'} end
local fulfilled = record[6] or ''
if record[1] == 'cancelled' then return {'cancelled', record[1], fulfilled, record[5]} end
if record[1] ~= 'committed' then return {'invalid_transition', record[1]} end
local named, gone, shipped, lines, touched, cancelled, remaining = {}, {}, {}, {}, {}, {}, 0
for i = 8, #ARGV, 2 do named[ARGV[i]] = (named[ARGV[i]] or 0) + ARGV[i + 1] end
for sku, quantity in string.gmatch(record[5] or '', '([^ =]+)=(%d+)') do gone[sku] = tonumber(quantity) end
for sku, quantity in string.gmatch(fulfilled, '([^ =]+)=(%d+)') do shipped[sku] = tonumber(quantity) end
local prefix, at = string.sub(meta_key, 1, -5), 5
for sku, quantity in string.gmatch(record[3], '([^ =]+)=(%d+)') do
  if KEYS[at] ~= prefix .. 'sku:' .. sku or KEYS[at + 1] ~= prefix .. 'buyers:' .. sku then return {'wrong_keys'} end
  local before = gone[sku] or 0
  local left = quantity - before - (shipped[sku] or 0)
  local wanted = #ARGV < 8 and left or named[sku] or 0
  if wanted < 0 or wanted % 1 ~= 0 or wanted > left then return {'not_in_order', sku} end
  named[sku] = nil
  local counters = redis.call('HMGET', KEYS[at], 'available', 'allocated')
  if not counters[1] or tonumber(counters[2] or 0) < wanted then return {'inconsistent', sku} end
  if wanted > 0 then
    touched[#touched + 1] = sku .. '=' .. string.format('%d', wanted)
    lines[#lines + 1] = {sku_key = KEYS[at], available = counters[1] + wanted, allocated = counters[2] - wanted,
      quantity = wanted, buyers_key = KEYS[at + 1]}
  end
  if before + wanted > 0 then cancelled[#cancelled + 1] = sku .. '=' .. string.format('%d', before + wanted) end
  remaining, at = remaining + left - wanted, at + 2
end
if next(named) then return {'not_in_order', (next(named))} end
cancelled = table.concat(cancelled, ' ')
local state = remaining > 0 and 'committed' or fulfilled ~= '' and 'fulfilled' or 'cancelled'
local seq, answer = string.format('%d', meta[3] + 1), {'cancelled', state, fulfilled, cancelled}
local operation = fingerprint == '' and '' or string.match(operation_key, ':op:(.*)') .. ' ' .. fingerprint

-- Nothing below this line can refuse.
redis.call('XADD', ledger_key, meta[2] .. '-' .. seq, 'op', 'cancel', 'at_ms', now_ms, 'actor', actor, 'user', record[2],
  'reservation_id', id, 'lines', table.concat(touched, ' '), 'deadline_ms', '', 'payment_id', record[4], 'reason', reason,
  'request_id', request_id, 'detail', state, 'counted', '*', 'operation', operation)
redis.call('HSET', meta_key, 'seq', seq, 'clock_ms', now_ms)
for _, line in ipairs(lines) do
  redis.call('HSET', line.sku_key, 'available', line.available, 'allocated', line.allocated)
  if redis.call('HINCRBY', line.buyers_key, record[2], -line.quantity) <= 0 then
    redis.call('HDEL', line.buyers_key, record[2])
  end
end
redis.call('HSET', reservation_key, 'state', state, 'cancelled', cancelled)
if state ~= 'committed' then redis.call('PEXPIRE', reservation_key, retain_ms) end
if fingerprint ~= '' then redis.call('SET', operation_key, fingerprint .. ' ' .. cjson.encode(answer), 'PX', keep_ms) end
return answer
