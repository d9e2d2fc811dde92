-- fulfil: the shop ships an order, all that is left of it or the lines named; they leave allocated and on_hand.
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
-- ARGV[7], [9] ... sku  ARGV[8], [10] ... quantity  what is shipped; none: all that is left
-- Returns, in order of precedence (fulfilled and cancelled as 'sku=quantity ...': all that was ever shipped and called off):
--   {'closed'}
--   {'idempotency_key_reused'}
--   {'replayed', 'fulfilled', state, fulfilled, cancelled}
--   {'not_found'}                      no such order
--   {'fulfilled', state, fulfilled, cancelled}   no lines are named, and nothing was left to ship; nothing written
--   {'invalid_transition', state}
--   {'wrong_keys'}                     this and the next two line by line
--   {'not_in_order', sku}              it isn't, fewer are left than named, or the quantity is no count; nothing written
--   {'inconsistent', sku}              allocated or on_hand is less than what is shipped; nothing written
--   {'fulfilled', state, fulfilled, cancelled}   state is committed as long as something is left to ship
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

local record = redis.call('HMGET', reservation_key, 'state', 'user', 'lines', 'payment_id', 'cancelled', 'fulfilled')
if not record[4] then return {'not_found'} end
local cancelled = record[5] or ''
if record[1] == 'fulfilled' and #ARGV < 7 then return {'fulfilled', record[1], record[6] or '', cancelled} end
if record[1] ~= 'committed' then return {'invalid_transition', record[1]} end
local named, gone, shipped, lines, touched, fulfilled, remaining = {}, {}, {}, {}, {}, {}, 0
for i = 7, #ARGV, 2 do named[ARGV[i]] = (named[ARGV[i]] or 0) + ARGV[i + 1] end
for sku, quantity in string.gmatch(cancelled, '([^ =]+)=(%d+)') do gone[sku] = tonumber(quantity) end
for sku, quantity in string.gmatch(record[6] or '', '([^ =]+)=(%d+)') do shipped[sku] = tonumber(quantity) end
local prefix, at = string.sub(meta_key, 1, -5), 5
for sku, quantity in string.gmatch(record[3], '([^ =]+)=(%d+)') do
  if KEYS[at] ~= prefix .. 'sku:' .. sku then return {'wrong_keys'} end
  local before = shipped[sku] or 0
  local left = quantity - before - (gone[sku] or 0)
  local wanted = #ARGV < 7 and left or named[sku] or 0
  if wanted < 0 or wanted % 1 ~= 0 or wanted > left then return {'not_in_order', sku} end
  named[sku] = nil
  local counters = redis.call('HMGET', KEYS[at], 'allocated', 'on_hand')
  if math.min(counters[1] or 0, counters[2] or 0) < wanted then return {'inconsistent', sku} end
  if wanted > 0 then
    touched[#touched + 1] = sku .. '=' .. string.format('%d', wanted)
    lines[#lines + 1] = {sku_key = KEYS[at], allocated = counters[1] - wanted, on_hand = counters[2] - wanted}
  end
  if before + wanted > 0 then fulfilled[#fulfilled + 1] = sku .. '=' .. string.format('%d', before + wanted) end
  remaining, at = remaining + left - wanted, at + 1
end
if next(named) then return {'not_in_order', (next(named))} end
fulfilled = table.concat(fulfilled, ' ')
local state, seq = remaining > 0 and 'committed' or 'fulfilled', string.format('%d', meta[3] + 1)
local answer = {'fulfilled', state, fulfilled, cancelled}
local operation = fingerprint == '' and '' or string.match(operation_key, ':op:(.*)') .. ' ' .. fingerprint

-- Nothing below this line can refuse.
redis.call('XADD', ledger_key, meta[2] .. '-' .. seq, 'op', 'fulfil', 'at_ms', now_ms, 'actor', actor, 'user', record[2],
  'reservation_id', id, 'lines', table.concat(touched, ' '), 'deadline_ms', '', 'payment_id', record[4], 'reason', '',
  'request_id', request_id, 'detail', state, 'counted', '*', 'operation', operation)
redis.call('HSET', meta_key, 'seq', seq, 'clock_ms', now_ms)
for _, line in ipairs(lines) do
  redis.call('HSET', line.sku_key, 'allocated', line.allocated, 'on_hand', line.on_hand)
end
redis.call('HSET', reservation_key, 'state', state, 'fulfilled', fulfilled)
if state == 'fulfilled' then redis.call('PEXPIRE', reservation_key, retain_ms) end
if fingerprint ~= '' then redis.call('SET', operation_key, fingerprint .. ' ' .. cjson.encode(answer), 'PX', keep_ms) end
return answer
