-- commit: a payment turns a hold into an order: reserved becomes allocated, for good. After the hold's end the payment takes
-- stock as a new reservation would at that moment, or the units that a later checkout of the same cart holds; where neither
-- can be, it must be refunded.
--
-- KEYS[1] meta         hash    gate, epoch, seq, clock_ms, selling_paused
-- KEYS[2] ledger       stream  one event per change, entry id <epoch>-<seq>
-- KEYS[3] deadlines    zset    reservation id -> deadline_ms, live holds only
-- KEYS[4] reservation  hash    the hold, which becomes the order
-- KEYS[5] lease        string  gone at the deadline, which wakes the sweeper
-- KEYS[6] operation    string  answer of a call with this idempotency key
-- KEYS[7] payment      string  id of the reservation that this payment was for
-- KEYS[8], [10] ... sku     hash  counters and attributes, one for each line, in the hold's order
-- KEYS[9], [11] ... buyers  hash  user -> units held and bought since ever
-- and for a hold that has ended and was made from a cart, after these
-- KEYS[n] checkout     string  id of the cart's latest hold
-- KEYS[n+1] reservation, KEYS[n+2] lease, KEYS[n+3] sku, KEYS[n+4] buyers ...  of that hold, if it may be live
-- ARGV[1] id  ARGV[2] payment_id  ARGV[3] actor  ARGV[4] request_id
-- ARGV[5] settled      1: what was due is expired, decide; 0: answer 'due' if due holds may be in the way
-- ARGV[6] fingerprint  of the request; '' to keep no answer
-- ARGV[7] retain_ms    milliseconds to keep the answer, the payment's reservation and the record of a hold that ends
-- ARGV[8] latest       what the caller read from checkout; '' if nothing
-- Returns, in order of precedence (late is 1 if the hold had ended, else 0):
--   {'closed'}
--   {'idempotency_key_reused'}
--   {'replayed', epoch, seq, 'committed', committed_ms, late}
--   {'not_found'}
--   {'refund_required', lines, epoch, seq}   said before of this payment id; lines as 'sku=requested/available/verdict ...'
--   {'payment_already_used'}           the payment was for another reservation
--   {'already_committed'}              with another payment id
--   {'due', now_ms}                    this hold's time has run out: expire it, then call again
--   {'moved'}                          checkout isn't what the caller read any more: read again
--   {'wrong_keys'}                     line by line with the next
--   {'inconsistent', sku}              reserved is less than a hold, or ('') its record is torn; nothing written
--   {'due', now_ms}                    expire what is due of its SKUs, then call again
--   {'refund_required', lines, epoch, seq}
--   {'committed', committed_ms, late, epoch, seq}  also as the repeat of the same payment id
-- Epoch and seq are of an event that is no earlier than the one that recorded this: once the ledger is in Postgres up to
-- there, the answer is durable.
-- Writes: ledger, meta, sku, buyers, reservation, lease, deadlines, operation, payment
-- Emits: commit, and before it release (reason 'paid') of the hold whose units it takes; or refund_required
-- By hand: redis-cli --eval lua/commit.lua 'stk:{p0}:meta' 'stk:{p0}:ledger' 'stk:{p0}:deadlines' 'stk:{p0}:rsv:ID' 'stk:{p0}:lease:ID' 'stk:{p0}:op:none' 'stk:{p0}:payment:PAYMENT' 'stk:{p0}:sku:SKU' 'stk:{p0}:buyers:SKU' , ID PAYMENT ACTOR REQUEST 1 '' 86400000 ''

local meta_key, ledger_key, deadlines_key, reservation_key, lease_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local operation_key, payment_key, id, payment_id, actor, request_id = KEYS[6], KEYS[7], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local settled, fingerprint, retain_ms, latest = ARGV[5] == '1', ARGV[6], ARGV[7], ARGV[8]

local meta = redis.call('HMGET', meta_key, 'gate', 'epoch', 'seq', 'clock_ms', 'selling_paused')
if meta[1] ~= 'open' then return {'closed'} end
local time = redis.call('TIME')
local now_ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(meta[4]))
local done = fingerprint ~= '' and redis.call('GET', operation_key)
if done then
  local space = string.find(done, ' ', 1, true)
  if string.sub(done, 1, space - 1) ~= fingerprint then return {'idempotency_key_reused'} end
  return {'replayed', tonumber(meta[2]), tonumber(meta[3]), unpack(cjson.decode(string.sub(done, space + 1)))}
end

local epoch, seq = tonumber(meta[2]), tonumber(meta[3])
local record = redis.call('HMGET', reservation_key, 'state', 'user', 'lines', 'deadline_ms', 'payment_id', 'committed_ms',
  'late', 'cart', 'refund:' .. payment_id)
if not record[1] then return {'not_found'} end
if record[5] == payment_id then return {'committed', tonumber(record[6]), tonumber(record[7]), epoch, seq} end
if record[9] then return {'refund_required', record[9], epoch, seq} end
if (redis.call('GET', payment_key) or id) ~= id then return {'payment_already_used'} end
if record[5] then return {'already_committed'} end
local user, live = record[2], record[1] == 'reserved'
if live and now_ms >= tonumber(record[4] or 0) then return {'due', now_ms} end
if not user or not record[3] then return {'inconsistent', ''} end

local lines, of_sku, prefix, at = {}, {}, string.sub(meta_key, 1, -5), 8
for sku, quantity in string.gmatch(record[3], '([^ =]+)=(%d+)') do
  lines[#lines + 1] = {sku = sku, quantity = tonumber(quantity), sku_key = KEYS[at], buyers_key = KEYS[at + 1], own = 0}
  of_sku[sku], at = lines[#lines], at + 2
end
local checkout_key, old_key, old_lease_key, old = KEYS[at], KEYS[at + 1], KEYS[at + 2], {}
if not live and record[8] and not (checkout_key and (redis.call('GET', checkout_key) or '') == latest) then return {'moved'} end
for _, line in ipairs(lines) do
  if line.sku_key ~= prefix .. 'sku:' .. line.sku or line.buyers_key ~= prefix .. 'buyers:' .. line.sku then return {'wrong_keys'} end
end

-- The units that a live hold of a later checkout gives up to this payment, by line; those of other SKUs just return.
local returned = {}
if not live and old_key then
  old, at = redis.call('HMGET', old_key, 'state', 'user', 'lines', 'deadline_ms'), at + 3
  if old[1] ~= 'reserved' or old[2] ~= user or now_ms >= tonumber(old[4]) then old = {} end
  for sku, quantity in string.gmatch(old[3] or '', '([^ =]+)=(%d+)') do
    if KEYS[at] ~= prefix .. 'sku:' .. sku or KEYS[at + 1] ~= prefix .. 'buyers:' .. sku then return {'wrong_keys'} end
    if tonumber(redis.call('HGET', KEYS[at], 'reserved') or 0) < tonumber(quantity) then return {'inconsistent', sku} end
    if of_sku[sku] then of_sku[sku].own = tonumber(quantity)
    else returned[#returned + 1] = {quantity = tonumber(quantity), sku_key = KEYS[at], buyers_key = KEYS[at + 1]} end
    at = at + 2
  end
end

-- Whether a line can be had now, as reserve.lua decides it; the units of the later hold are the buyer's whatever has changed since.
local function judge(line, sku)
  if line.quantity <= line.own then return 'ok' end
  if not sku[1] then return 'unknown_sku' end
  if sku[8] or meta[5] then return 'paused' end
  if sku[6] and now_ms < tonumber(sku[6]) then return 'not_started' end
  if sku[7] and now_ms >= tonumber(sku[7]) then return 'ended' end
  if sku[5] and (redis.call('HGET', line.buyers_key, user) or 0) - line.own + line.quantity > tonumber(sku[5]) then return 'limit_exceeded' end
  if line.quantity <= line.available then return 'ok' end
  if line.available > 0 then return 'insufficient' end
  return line.reserved > 0 and 'all_held' or 'sold_out'
end

local refused, due, said = false, false, {}
for at, line in ipairs(lines) do
  local sku = redis.call('HMGET', line.sku_key, 'available', 'reserved', 'allocated', 'next_release_ms', 'limit_per_customer',
    'sale_starts_ms', 'sale_ends_ms', 'paused')
  if live and tonumber(sku[2] or 0) < line.quantity then return {'inconsistent', line.sku} end
  line.available, line.reserved, line.allocated = (sku[1] or 0) + line.own, (sku[2] or 0) - line.own, (sku[3] or 0) + line.quantity
  local verdict = live and 'ok' or judge(line, sku)
  local may_return = verdict == 'insufficient' or verdict == 'all_held' or verdict == 'limit_exceeded'
  refused = refused or verdict ~= 'ok'
  due = due or may_return and sku[4] and tonumber(sku[4]) <= now_ms
  said[at] = line.sku .. '=' .. string.format('%d/%d/', line.quantity, line.available) .. verdict
  if live then line.reserved = line.reserved - line.quantity else line.available = line.available - line.quantity end
end
if due and not settled then return {'due', now_ms} end
said = table.concat(said, ' ')
local late = live and 0 or 1
local operation = (fingerprint == '' or refused) and '' or string.match(operation_key, ':op:(.*)') .. ' ' .. fingerprint

-- Nothing below this line can refuse.

-- Puts an event of this user into the ledger.
local function emit(op, reservation_id, of_lines, paid_with, reason, detail, of_operation)
  seq = seq + 1
  redis.call('XADD', ledger_key, meta[2] .. '-' .. string.format('%d', seq), 'op', op, 'at_ms', now_ms, 'actor', actor,
    'user', user, 'reservation_id', reservation_id, 'lines', of_lines, 'deadline_ms', '', 'payment_id', paid_with,
    'reason', reason, 'request_id', request_id, 'detail', detail, 'counted', '*', 'operation', of_operation)
end

if refused then emit('refund_required', id, record[3], payment_id, '', said, '') else
  if old[1] then emit('release', latest, old[3], '', 'paid', id, '') end
  emit('commit', id, record[3], payment_id, '', late == 1 and 'late' or '', operation)
end
redis.call('HSET', meta_key, 'seq', string.format('%d', seq), 'clock_ms', now_ms)
redis.call('SET', payment_key, id, 'PX', retain_ms)
if refused then
  redis.call('HSET', reservation_key, 'refund:' .. payment_id, said)
  return {'refund_required', said, epoch, seq}
end
for _, line in ipairs(lines) do
  redis.call('HSET', line.sku_key, 'available', line.available, 'reserved', line.reserved, 'allocated', line.allocated)
  if line.reserved == 0 then redis.call('HDEL', line.sku_key, 'next_release_ms') end
  if not live then redis.call('HINCRBY', line.buyers_key, user, line.quantity - line.own) end
end
for _, line in ipairs(returned) do
  redis.call('HINCRBY', line.sku_key, 'available', line.quantity)
  if redis.call('HINCRBY', line.sku_key, 'reserved', -line.quantity) == 0 then redis.call('HDEL', line.sku_key, 'next_release_ms') end
  if redis.call('HINCRBY', line.buyers_key, user, -line.quantity) <= 0 then redis.call('HDEL', line.buyers_key, user) end
end
if old[1] then
  redis.call('HSET', old_key, 'state', 'released')
  redis.call('PEXPIRE', old_key, retain_ms)
  redis.call('DEL', old_lease_key)
  redis.call('ZREM', deadlines_key, latest)
end
redis.call('HSET', reservation_key, 'state', 'committed', 'payment_id', payment_id, 'committed_ms', now_ms, 'late', late)
redis.call('PERSIST', reservation_key)
redis.call('DEL', lease_key)
redis.call('ZREM', deadlines_key, id)
if fingerprint ~= '' then
  redis.call('SET', operation_key, fingerprint .. ' ' .. cjson.encode({'committed', now_ms, late}), 'PX', retain_ms)
end
return {'committed', now_ms, late, epoch, seq}
