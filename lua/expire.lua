-- expire: a live hold's time has run out; its units return to available.
--
-- KEYS[1] meta         hash    gate, epoch, seq, clock_ms
-- KEYS[2] ledger       stream  one event per change, entry id <epoch>-<seq>
-- KEYS[3] deadlines    zset    reservation id -> deadline_ms, live holds only
-- KEYS[4] reservation  hash    the hold
-- KEYS[5] lease        string  gone at the deadline, which wakes the sweeper
-- KEYS[6], [8] ... sku     hash  counters, one for each line, in the hold's order
-- KEYS[7], [9] ... buyers  hash  user -> units held and bought since ever
-- ARGV[1] id  ARGV[2] actor  ARGV[3] request_id
-- ARGV[4] retain_ms    milliseconds to keep the record after its end
-- Returns, in order of precedence:
--   {'closed'}
--   {'dropped'}                        no live hold of this id: only its entry in deadlines is taken out
--   {'ended'}                          no live hold of this id, and no entry; nothing written
--   {'not_due', deadline_ms}
--   {'wrong_keys'}
--   {'inconsistent', sku}              reserved is less than the hold, or ('') its record is torn; nothing written
--   {'expired'}
-- Writes: ledger, meta, sku, buyers, reservation, lease, deadlines
-- Emits: expire
-- By hand: redis-cli --eval lua/expire.lua 'stk:{p0}:meta' 'stk:{p0}:ledger' 'stk:{p0}:deadlines' 'stk:{p0}:rsv:ID' 'stk:{p0}:lease:ID' 'stk:{p0}:sku:SKU' 'stk:{p0}:buyers:SKU' , ID ACTOR REQUEST 86400000

local meta_key, ledger_key, deadlines_key, reservation_key, lease_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, actor, request_id, retain_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local meta = redis.call('HMGET', meta_key, 'gate', 'epoch', 'seq', 'clock_ms')
if meta[1] ~= 'open' then return {'closed'} end
local time = redis.call('TIME')
local now_ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(meta[4]))

local record = redis.call('HMGET', reservation_key, 'state', 'user', 'lines', 'deadline_ms')
if record[1] ~= 'reserved' then
  if redis.call('ZREM', deadlines_key, id) == 1 then return {'dropped'} end
  return {'ended'}
end
if now_ms < tonumber(record[4] or 0) then return {'not_due', tonumber(record[4])} end
if not string.find(record[3] or '', '=%d') or not record[2] or not record[4] then return {'inconsistent', ''} end
local prefix, lines = string.sub(meta_key, 1, -5), {}
for sku, quantity in string.gmatch(record[3], '([^ =]+)=(%d+)') do
  local at = 6 + 2 * #lines
  if KEYS[at] ~= prefix .. 'sku:' .. sku or KEYS[at + 1] ~= prefix .. 'buyers:' .. sku then return {'wrong_keys'} end
  local counters = redis.call('HMGET', KEYS[at], 'available', 'reserved')
  if not counters[1] or tonumber(counters[2] or 0) < tonumber(quantity) then return {'inconsistent', sku} end
  lines[#lines + 1] = {sku_key = KEYS[at], available = counters[1] + quantity, reserved = counters[2] - quantity,
    quantity = quantity, buyers_key = KEYS[at + 1]}
end
local seq = string.format('%d', meta[3] + 1)

-- Nothing below this line can refuse.
redis.call('XADD', ledger_key, meta[2] .. '-' .. seq, 'op', 'expire', 'at_ms', now_ms, 'actor', actor, 'user', record[2],
  'reservation_id', id, 'lines', record[3], 'deadline_ms', '', 'payment_id', '', 'reason', '',
  'request_id', request_id, 'detail', '', 'counted', '*', 'operation', '')
redis.call('HSET', meta_key, 'seq', seq, 'clock_ms', now_ms)
for _, line in ipairs(lines) do
  redis.call('HSET', line.sku_key, 'available', line.available, 'reserved', line.reserved)
  if line.reserved == 0 then redis.call('HDEL', line.sku_key, 'next_release_ms') end
  if redis.call('HINCRBY', line.buyers_key, record[2], -line.quantity) <= 0 then
    redis.call('HDEL', line.buyers_key, record[2])
  end
end
redis.call('HSET', reservation_key, 'state', 'expired')
redis.call('PEXPIRE', reservation_key, retain_ms)
redis.call('DEL', lease_key)
redis.call('ZREM', deadlines_key, id)
return {'expired'}
