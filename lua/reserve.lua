-- reserve: claim stock for one checkout, every line or none. The second checkout of a cart replaces the cart's live
-- hold in the same step: its units count as free, its start is kept for the cap, and if the new one can't be had it stands.
--
-- KEYS[1] meta         hash    gate, epoch, seq, clock_ms, selling_paused, default_hold_ms, full_seq
-- KEYS[2] ledger       stream  one event per change, entry id <epoch>-<seq>
-- KEYS[3] deadlines    zset    reservation id -> deadline_ms, live holds only
-- KEYS[4] reservation  hash    the hold; if it is there already, this call is a repeat
-- KEYS[5] lease        string  gone at the deadline, which wakes the sweeper
-- KEYS[6], [8] ... sku     hash  counters and attributes, one for each line
-- KEYS[7], [9] ... buyers  hash  user -> units held and bought since ever
-- and for the checkout of a cart, after these
-- KEYS[n] checkout     string  id of the cart's latest hold
-- KEYS[n+1] reservation, KEYS[n+2] lease, KEYS[n+3] sku, KEYS[n+4] buyers ...  of that hold, unless it is paid for
-- ARGV[1] id  ARGV[2] user  ARGV[3] actor  ARGV[4] request_id
-- ARGV[5] hold_ms      milliseconds from now to the deadline, at most 900000
-- ARGV[6] fingerprint  of the request; '' without an idempotency key
-- ARGV[7] cart         its id; '' without one
-- ARGV[8] replaces     what the caller read from checkout; '' if nothing
-- ARGV[9] retain_ms    milliseconds to keep the record of a replaced hold, and checkout
-- ARGV[10] asked       1 if the buyer asked for hold_ms; 0 if it is the default, before which default_hold_ms counts
-- ARGV[11], [13] ... sku  ARGV[12], [14] ... quantity  units; lines of one SKU are summed
-- Returns, in order of precedence:
--   {'closed'}                       also when as many events as allowed wait for Postgres
--   {'bad_request'}                  a hold_ms or quantity that is no whole number from 1
--   {'idempotency_key_reused'}
--   {'replayed'}                     the hold was made before; its record says how it is now
--   {'moved'}                        checkout isn't what the caller read any more, or was paid for since: read again
--   {'wrong_keys'}                   the replaced hold has other lines; line by line with the next
--   {'inconsistent', sku}            reserved is less than the replaced hold; nothing written
--   {'lines_unavailable', now_ms, due, [sku, requested, available, verdict, max_reservable, next_release_ms] ...}
--                    due is 1 if holds whose time has run out may be in the way: expire them and call again
--   {'reserved', created_ms, deadline_ms}
-- Writes: ledger, meta, sku, buyers, reservation, lease, deadlines, checkout
-- Emits: reserve, and before it release (reason 'replaced') of the hold that it replaces
-- By hand: redis-cli --eval lua/reserve.lua 'stk:{p0}:meta' 'stk:{p0}:ledger' 'stk:{p0}:deadlines' 'stk:{p0}:rsv:ID' 'stk:{p0}:lease:ID' 'stk:{p0}:sku:SKU' 'stk:{p0}:buyers:SKU' , ID USER ACTOR REQUEST 900000 '' '' '' 0 1 SKU 2

local meta_key, ledger_key, deadlines_key, reservation_key, lease_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, user, actor, request_id, fingerprint = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[6]
local cart, replaces, retain_ms, asked = ARGV[7], ARGV[8], ARGV[9], ARGV[10] == '1'

local meta = redis.call('HMGET', meta_key, 'gate', 'epoch', 'seq', 'clock_ms', 'selling_paused', 'default_hold_ms', 'full_seq')
if meta[1] ~= 'open' then return {'closed'} end
local time = redis.call('TIME')
local now_ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(meta[4]))
if tonumber(meta[3]) >= tonumber(meta[7] or math.huge) then return {'closed'} end

local hold_ms = math.min(not asked and tonumber(meta[6] or '') or tonumber(ARGV[5]), 900000)
local lines, line_of = {}, {}
local sound = hold_ms >= 1 and hold_ms % 1 == 0 and #ARGV >= 12
for i = 11, #ARGV, 2 do
  local quantity = tonumber(ARGV[i + 1]) or 0
  sound = sound and quantity >= 1 and quantity % 1 == 0
  local line = line_of[ARGV[i]] or {sku = ARGV[i], quantity = 0, sku_key = KEYS[i - 5], buyers_key = KEYS[i - 4]}
  if not line_of[ARGV[i]] then lines[#lines + 1], line_of[ARGV[i]] = line, line end
  line.quantity = line.quantity + quantity
end
if not sound then return {'bad_request'} end

local known = redis.call('HMGET', reservation_key, 'created_ms', 'request')
if known[1] and (known[2] or '') ~= fingerprint then return {'idempotency_key_reused'} end
if known[1] then return {'replayed'} end

-- What the replaced hold gives up, by SKU. A hold that is dead or due gives up nothing.
local old, given_up, checkout_at = {}, {}, #ARGV - 4
local checkout_key, old_key, old_lease_key = KEYS[checkout_at], KEYS[checkout_at + 1], KEYS[checkout_at + 2]
if cart ~= '' and (redis.call('GET', checkout_key) or '') ~= replaces then return {'moved'} end
if replaces ~= '' and old_key then
  old = redis.call('HMGET', old_key, 'state', 'lines', 'created_ms', 'deadline_ms', 'payment_id')
  if old[5] then return {'moved'} end
  if old[1] ~= 'reserved' or now_ms >= tonumber(old[4]) then old = {} end
  local prefix, at = string.sub(meta_key, 1, -5), checkout_at + 3
  for sku, quantity in string.gmatch(old[2] or '', '([^ =]+)=(%d+)') do
    if KEYS[at] ~= prefix .. 'sku:' .. sku or KEYS[at + 1] ~= prefix .. 'buyers:' .. sku then return {'wrong_keys'} end
    if tonumber(redis.call('HGET', KEYS[at], 'reserved') or 0) < tonumber(quantity) then return {'inconsistent', sku} end
    given_up[sku] = {quantity = tonumber(quantity), at = at}
    at = at + 2
  end
end

-- Reads a line's SKU, notes how many units are free for this user, and returns the verdict.
local function judge(line)
  local sku = redis.call('HMGET', line.sku_key, 'available', 'reserved', 'next_release_ms', 'limit_per_customer',
    'sale_starts_ms', 'sale_ends_ms', 'paused')
  local own = given_up[line.sku] or {quantity = 0}
  line.available, line.reserved, line.free = (sku[1] or 0) + own.quantity, (sku[2] or 0) - own.quantity, 0
  line.next_release_ms = tonumber(sku[3] or 0)
  if not sku[1] then return 'unknown_sku' end
  if sku[7] or meta[5] then return 'paused' end
  if sku[5] and now_ms < tonumber(sku[5]) then return 'not_started' end
  if sku[6] and now_ms >= tonumber(sku[6]) then return 'ended' end
  line.free = line.available
  if sku[4] then
    local has = (redis.call('HGET', line.buyers_key, user) or 0) - own.quantity
    local allowed = math.max(tonumber(sku[4]) - has, 0)
    line.free = math.min(line.available, allowed)
    if line.quantity > allowed then return 'limit_exceeded' end
  end
  if line.quantity <= line.available then return 'ok' end
  if line.available > 0 then return 'insufficient' end
  return line.reserved > 0 and 'all_held' or 'sold_out'
end

-- 1 if the time of any hold at all has run out: a SKU's next_release_ms may be too early.
local function any_due()
  local first = redis.call('ZRANGE', deadlines_key, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) <= now_ms and 1 or 0
end

local refused, packed = false, {}
for at, line in ipairs(lines) do
  line.verdict = judge(line)
  refused = refused or line.verdict ~= 'ok'
  packed[at] = line.sku .. '=' .. string.format('%d', line.quantity)
end
if refused then
  local answer = {'lines_unavailable', now_ms, 0}
  for _, line in ipairs(lines) do
    local may_return = line.verdict == 'insufficient' or line.verdict == 'all_held' or line.verdict == 'limit_exceeded'
    if may_return and line.next_release_ms > 0 and line.next_release_ms <= now_ms then answer[3] = any_due() end
    for _, value in ipairs({line.sku, line.quantity, line.available, line.verdict, line.free, line.next_release_ms}) do
      answer[#answer + 1] = value
    end
  end
  return answer
end
packed = table.concat(packed, ' ')
local created_ms, seq, replaced = tonumber(old[3] or now_ms), tonumber(meta[3]), old[1]
local deadline_ms = math.min(now_ms + hold_ms, created_ms + 900000)
-- A number handed to Redis is printed with 17 digits of a float, which takes ten times as long as text does.
local now, created, deadline = string.format('%d', now_ms), string.format('%d', created_ms), string.format('%d', deadline_ms)

-- Nothing below this line can refuse.

-- Puts an event of this user into the ledger.
local function emit(op, reservation_id, of_lines, until_ms, reason, detail)
  seq = seq + 1
  redis.call('XADD', ledger_key, meta[2] .. '-' .. string.format('%d', seq), 'op', op, 'at_ms', now, 'actor', actor,
    'user', user, 'reservation_id', reservation_id, 'lines', of_lines, 'deadline_ms', until_ms, 'payment_id', '',
    'reason', reason, 'request_id', request_id, 'detail', detail, 'counted', '*', 'operation', '')
end

if replaced then emit('release', replaces, old[2], '', 'replaced', '') end
local detail = cart == '' and fingerprint or fingerprint .. ' ' .. cart .. ' ' .. created
emit('reserve', id, packed, deadline, '', detail)
redis.call('HSET', meta_key, 'seq', string.format('%d', seq), 'clock_ms', now)
for sku, own in pairs(given_up) do
  if redis.call('HINCRBY', KEYS[own.at + 1], user, -own.quantity) <= 0 then
    redis.call('HDEL', KEYS[own.at + 1], user)
  end
  if not line_of[sku] then
    redis.call('HINCRBY', KEYS[own.at], 'available', own.quantity)
    if redis.call('HINCRBY', KEYS[own.at], 'reserved', -own.quantity) == 0 then redis.call('HDEL', KEYS[own.at], 'next_release_ms') end
  end
end
for _, line in ipairs(lines) do
  local available, reserved = string.format('%d', line.available - line.quantity), string.format('%d', line.reserved + line.quantity)
  if line.next_release_ms == 0 or deadline_ms < line.next_release_ms then
    redis.call('HSET', line.sku_key, 'available', available, 'reserved', reserved, 'next_release_ms', deadline)
  else
    redis.call('HSET', line.sku_key, 'available', available, 'reserved', reserved)
  end
  redis.call('HINCRBY', line.buyers_key, user, line.quantity)
end
if replaced then
  redis.call('HSET', old_key, 'state', 'released')
  redis.call('PEXPIRE', old_key, retain_ms)
  redis.call('DEL', old_lease_key)
  redis.call('ZREM', deadlines_key, replaces)
end
local record = {'state', 'reserved', 'user', user, 'lines', packed, 'created_ms', created, 'deadline_ms', deadline}
if fingerprint ~= '' then record[11], record[12] = 'request', fingerprint end
if cart ~= '' then record[#record + 1], record[#record + 2] = 'cart', cart end
redis.call('HSET', reservation_key, unpack(record))
redis.call('SET', lease_key, '1', 'PX', string.format('%d', deadline_ms - now_ms))
redis.call('ZADD', deadlines_key, deadline, id)
if cart ~= '' then redis.call('SET', checkout_key, id, 'PX', retain_ms) end
return {'reserved', created_ms, deadline_ms}
