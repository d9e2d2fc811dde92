-- fulfil: the shop ships an order; what is left of it leaves allocated and on_hand.
--
-- KEYS[1] meta         hash    gate, epoch, seq, clock_ms
-- KEYS[2] ledger       stream  one event per change, entry id <epoch>-<seq>
-- KEYS[3] reservation  hash    the order
-- KEYS[4] operation    string  answer of a call with this idempotency key
-- KEYS[5], [6] ... sku hash    counters, one for each line, in the order's order
-- ARGV[1] id  ARGV[2] actor  ARGV[3] request_id
-- ARGV[4] fingerprint  of the request; '' to keep no answer
-- ARGV[5] keep_ms      milliseconds to keep the answer
-- ARGV[6] retain_ms    milliseconds to keep the record after its end
-- Returns, in order of precedence (cancelled as 'sku=quantity ...', '' if nothing was):
--   {'closed'}
--   {'idempotency_key_reused'}
--   {'replayed', 'fulfilled', cancelled}
--   {'not_found'}                      no such order
--   {'fulfilled', cancelled}           it was fulfilled before; nothing written
--   {'invalid_transition', state}
--   {'wrong_keys'}
--   {'inconsistent', sku}              allocated is less than the order; nothing written
--   {'fulfilled', cancelled}
-- Writes: ledger, meta, sku, reservation, operation
-- Emits: fulfil
-- By hand: redis-cli --eval lua/fulfil.lua 'stk:{p0}:meta' 'stk:{p0}:ledger' 'stk:{p0}:rsv:ID' 'stk:{p0}:op:none' 'stk:{p0}:sku:SKU' , ID ACTOR REQUEST '' 0 86400000

local meta_key, ledger_key, reservation_key, operation_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, actor, request_id, fingerprint, keep_ms, retain_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]

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

local record = redis.call('HMGET', reservation_key, 'state', 'user', 'lines', 'payment_id', 'cancelled')
if not record[4] then return {'not_found'} end
local answer = {'fulfilled', record[5] or ''}
if record[1] == 'fulfilled' then return answer end
if record[1] ~= 'committed' then return {'invalid_transition', record[1]} end
local gone, lines, shipped, prefix, at = {}, {}, {}, string.sub(meta_key, 1, -5), 5
for sku, quantity in string.gmatch(record[5] or '', '([^ =]+)=(%d+)') do gone[sku] = tonumber(quantity) end
for sku, quantity in string.gmatch(record[3], '([^ =]+)=(%d+)') do
  if KEYS[at] ~= prefix .. 'sku:' .. sku then return {'wrong_keys'} end
  local left = quantity - (gone[sku] or 0)
  local counters = redis.call('HMGET', KEYS[at], 'allocated', 'on_hand')
  if tonumber(counters[1] or 0) < left then return {'inconsistent', sku} end
  if left > 0 then
    lines[#lines + 1] = {sku_key = KEYS[at], allocated = counters[1] - left, on_hand = counters[2] - left}
    shipped[#shipped + 1] = sku .. '=' .. string.format('%d', left)
  end
  at = at + 1
end
local seq = string.format('%d', meta[3] + 1)
local operation = fingerprint == '' and '' or string.match(operation_key, ':op:(.*)') .. ' ' .. fingerprint

-- Nothing below this line can refuse.
redis.call('XADD', ledger_key, meta[2] .. '-' .. seq, 'op', 'fulfil', 'at_ms', now_ms, 'actor', actor, 'user', record[2],
  'reservation_id', id, 'lines', table.concat(shipped, ' '), 'deadline_ms', '', 'payment_id', record[4], 'reason', '',
  'request_id', request_id, 'detail', '', 'counted', '', 'operation', operation)
redis.call('HSET', meta_key, 'seq', seq, 'clock_ms', now_ms)
for _, line in ipairs(lines) do
  redis.call('HSET', line.sku_key, 'allocated', line.allocated, 'on_hand', line.on_hand)
end
redis.call('HSET', reservation_key, 'state', 'fulfilled')
redis.call('PEXPIRE', reservation_key, retain_ms)
if fingerprint ~= '' then redis.call('SET', operation_key, fingerprint .. ' ' .. cjson.encode(answer), 'PX', keep_ms) end
return answer
