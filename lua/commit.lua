-- commit: a payment turns a hold into an order: reserved becomes allocated, for good.
-- After the hold's end the stock is taken again if it is free; if not, the payment must be refunded.
--
-- KEYS[1] meta         hash    gate, epoch, seq, clock_ms
-- KEYS[2] ledger       stream  one event per change, entry id <epoch>-<seq>
-- KEYS[3] deadlines    zset    reservation id -> deadline_ms, live holds only
-- KEYS[4] reservation  hash    the hold, which becomes the order
-- KEYS[5] lease        string  gone at the deadline, which wakes the sweeper
-- KEYS[6] operation    string  answer of a call with this idempotency key
-- KEYS[7], [9] ... sku     hash  counters, one for each line, in the hold's order
-- KEYS[8], [10] .. buyers  hash  user -> units held and bought, where a limit is set
-- ARGV[1] id  ARGV[2] payment_id  ARGV[3] actor  ARGV[4] request_id
-- ARGV[5] settled      1: what was due is expired, decide; 0: answer 'due' if due holds may be in the way
-- ARGV[6] fingerprint  of the request; '' to keep no answer
-- ARGV[7] keep_ms      milliseconds to keep the answer
-- Returns, in order of precedence (late is 1 if the hold had ended, else 0):
--   {'closed'}
--   {'idempotency_key_reused'}
--   {'replayed', epoch, seq, 'committed', committed_ms, late}
--   {'not_found'}
--   {'refund_required', lines, epoch, seq}   said before of this payment id; lines as 'sku=requested/available ...'
--   {'already_committed'}              with another payment id
--   {'due', now_ms}                    this hold's time has run out: expire it, then call again
--   {'wrong_keys'}                     line by line with the next
--   {'inconsistent', sku}              reserved is less than the hold; nothing written
--   {'due', now_ms}                    expire what is due of its SKUs, then call again
--   {'refund_required', lines, epoch, seq}
--   {'committed', committed_ms, late, epoch, seq}  also as the repeat of the same payment id
-- Epoch and seq are of an event that is no earlier than the one that recorded this: once the ledger is in Postgres up to
-- there, the answer is durable.
-- Writes: ledger, meta, sku, buyers, reservation, lease, deadlines, operation
-- Emits: commit, or refund_required
-- By hand: redis-cli --eval lua/commit.lua 'stk:{p0}:meta' 'stk:{p0}:ledger' 'stk:{p0}:deadlines' 'stk:{p0}:rsv:ID' 'stk:{p0}:lease:ID' 'stk:{p0}:op:none' 'stk:{p0}:sku:SKU' 'stk:{p0}:buyers:SKU' , ID PAYMENT ACTOR REQUEST 1 '' 0

local meta_key, ledger_key, deadlines_key, reservation_key, lease_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local operation_key, id, payment_id, actor, request_id = KEYS[6], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local settled, fingerprint, keep_ms = ARGV[5] == '1', ARGV[6], ARGV[7]

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

local epoch = tonumber(meta[2])
local record = redis.call('HMGET', reservation_key, 'state', 'user', 'lines', 'deadline_ms', 'counted', 'payment_id',
  'committed_ms', 'late', 'refund:' .. payment_id)
if not record[1] then return {'not_found'} end
if record[6] == payment_id then return {'committed', tonumber(record[7]), tonumber(record[8]), epoch, tonumber(meta[3])} end
if record[9] then return {'refund_required', record[9], epoch, tonumber(meta[3])} end
if record[6] then return {'already_committed'} end
local live, prefix, lines, due, missing = record[1] == 'reserved', string.sub(meta_key, 1, -5), {}, false, {}
if not record[2] or not record[3] then return {'inconsistent', ''} end
if live and now_ms >= tonumber(record[4] or 0) then return {'due', now_ms} end
local counted = ' ' .. (live and record[5] or '') .. ' '
for sku, quantity in string.gmatch(record[3], '([^ =]+)=(%d+)') do
  local at = 7 + 2 * #lines
  if KEYS[at] ~= prefix .. 'sku:' .. sku or KEYS[at + 1] ~= prefix .. 'buyers:' .. sku then return {'wrong_keys'} end
  local counters = redis.call('HMGET', KEYS[at], 'available', 'reserved', 'allocated', 'next_release_ms', 'limit_per_customer')
  local from = live and 'reserved' or 'available'
  local held = tonumber(counters[live and 2 or 1] or 0)
  if live and held < tonumber(quantity) then return {'inconsistent', sku} end
  if held < tonumber(quantity) then
    missing[#missing + 1] = sku .. '=' .. quantity .. '/' .. string.format('%d', held)
    due = due or (counters[4] and tonumber(counters[4]) <= now_ms)
  end
  lines[#lines + 1] = {sku_key = KEYS[at], from = from, left = held - quantity, allocated = (counters[3] or 0) + quantity,
    quantity = quantity, buyers_key = not live and counters[5] and KEYS[at + 1]}
  if lines[#lines].buyers_key then counted = counted .. sku .. ' ' end
end
if due and not settled then return {'due', now_ms} end
local refund, seq = table.concat(missing, ' '), string.format('%d', meta[3] + 1)
counted = string.match(counted, '^%s*(.-)%s*$')
local op, late = #missing > 0 and 'refund_required' or 'commit', live and 0 or 1
local operation = (fingerprint == '' or #missing > 0) and '' or string.match(operation_key, ':op:(.*)') .. ' ' .. fingerprint

-- Nothing below this line can refuse.
redis.call('XADD', ledger_key, meta[2] .. '-' .. seq, 'op', op, 'at_ms', now_ms, 'actor', actor, 'user', record[2],
  'reservation_id', id, 'lines', record[3], 'deadline_ms', '', 'payment_id', payment_id, 'reason', '',
  'request_id', request_id, 'detail', #missing > 0 and refund or (late == 1 and 'late' or ''),
  'counted', live and '' or counted, 'operation', operation)
redis.call('HSET', meta_key, 'seq', seq, 'clock_ms', now_ms)
if #missing > 0 then
  redis.call('HSET', reservation_key, 'refund:' .. payment_id, refund)
  return {'refund_required', refund, epoch, tonumber(seq)}
end
for _, line in ipairs(lines) do
  redis.call('HSET', line.sku_key, line.from, line.left, 'allocated', line.allocated)
  if line.from == 'reserved' and line.left == 0 then redis.call('HDEL', line.sku_key, 'next_release_ms') end
  if line.buyers_key then redis.call('HINCRBY', line.buyers_key, record[2], line.quantity) end
end
redis.call('HSET', reservation_key, 'state', 'committed', 'payment_id', payment_id, 'committed_ms', now_ms, 'late', late,
  'counted', counted)
redis.call('PERSIST', reservation_key)
redis.call('DEL', lease_key)
redis.call('ZREM', deadlines_key, id)
if fingerprint ~= '' then
  redis.call('SET', operation_key, fingerprint .. ' ' .. cjson.encode({'committed', now_ms, late}), 'PX', keep_ms)
end
return {'committed', now_ms, late, epoch, tonumber(seq)}
