-- reserve: claim stock for one checkout, every line or none.
--
-- KEYS[1] meta         hash    gate, epoch, seq, clock_ms, selling_paused
-- KEYS[2] ledger       stream  one event per change, entry id <epoch>-<seq>
-- KEYS[3] deadlines    zset    reservation id -> deadline_ms, live holds only
-- KEYS[4] reservation  hash    the hold; if it is there already, this call is a repeat
-- KEYS[5] lease        string  gone at the deadline, which wakes the sweeper
-- KEYS[6], [8] ... sku     hash  counters and attributes, one for each line
-- KEYS[7], [9] ... buyers  hash  user -> units held and bought, where a limit is set
-- ARGV[1] id  ARGV[2] user  ARGV[3] actor  ARGV[4] request_id
-- ARGV[5] hold_ms      milliseconds from now to the deadline, at most 900000
-- ARGV[6] fingerprint  of the request; '' without an idempotency key
-- ARGV[7], [9] ... sku  ARGV[8], [10] ... quantity  units; lines of one SKU are summed
-- Returns, in order of precedence:
--   {'closed'}
--   {'idempotency_key_reused'}
--   {'replayed', created_ms, first_deadline_ms}
--   {'lines_unavailable', now_ms, due, [sku, requested, available, verdict, max_reservable, next_release_ms] ...}
--                    due is 1 if holds whose time has run out may be in the way: expire them and call again
--   {'reserved', created_ms, deadline_ms}
-- Writes: ledger, meta, sku, buyers, reservation, lease, deadlines
-- Emits: reserve
-- By hand: redis-cli --eval lua/reserve.lua 'stk:{p0}:meta' 'stk:{p0}:ledger' 'stk:{p0}:deadlines' 'stk:{p0}:rsv:ID' 'stk:{p0}:lease:ID' 'stk:{p0}:sku:SKU' 'stk:{p0}:buyers:SKU' , ID USER ACTOR REQUEST 900000 '' SKU 2

local meta_key, ledger_key, deadlines_key, reservation_key, lease_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, user, actor, request_id, fingerprint = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[6]
local hold_ms = math.min(tonumber(ARGV[5]), 900000)

local meta = redis.call('HMGET', meta_key, 'gate', 'epoch', 'seq', 'clock_ms', 'selling_paused')
if meta[1] ~= 'open' then return {'closed'} end
local time = redis.call('TIME')
local now_ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(meta[4]))

local known = redis.call('HMGET', reservation_key, 'created_ms', 'deadline_ms', 'first_deadline_ms', 'request')
if known[1] and (known[4] or '') ~= fingerprint then return {'idempotency_key_reused'} end
if known[1] then return {'replayed', tonumber(known[1]), tonumber(known[3] or known[2])} end

local lines, line_of = {}, {}
for i = 7, #ARGV, 2 do
  local line = line_of[ARGV[i]] or {sku = ARGV[i], quantity = 0, sku_key = KEYS[i - 1], buyers_key = KEYS[i]}
  if not line_of[ARGV[i]] then lines[#lines + 1], line_of[ARGV[i]] = line, line end
  line.quantity = line.quantity + tonumber(ARGV[i + 1])
end

-- Reads a line's SKU, notes how many units are free for this user, and returns the verdict.
local function judge(line)
  local sku = redis.call('HMGET', line.sku_key, 'available', 'reserved', 'next_release_ms', 'limit_per_customer',
    'sale_starts_ms', 'sale_ends_ms', 'paused')
  line.available, line.reserved, line.free = tonumber(sku[1] or 0), tonumber(sku[2] or 0), 0
  line.next_release_ms = tonumber(sku[3] or 0)
  if not sku[1] then return 'unknown_sku' end
  if sku[7] or meta[5] then return 'paused' end
  if sku[5] and now_ms < tonumber(sku[5]) then return 'not_started' end
  if sku[6] and now_ms >= tonumber(sku[6]) then return 'ended' end
  line.free = line.available
  if sku[4] then
    line.counted = tonumber(redis.call('HGET', line.buyers_key, user) or 0)
    local allowed = math.max(tonumber(sku[4]) - line.counted, 0)
    line.free = math.min(line.available, allowed)
    if line.quantity > allowed then return 'limit_exceeded' end
  end
  if line.quantity <= line.available then return 'ok' end
  if line.available > 0 then return 'insufficient' end
  return line.reserved > 0 and 'all_held' or 'sold_out'
end

local refused, answer, packed, counted = false, {'lines_unavailable', now_ms, 0}, {}, {}
for _, line in ipairs(lines) do
  local verdict = judge(line)
  refused = refused or verdict ~= 'ok'
  local may_return = verdict == 'insufficient' or verdict == 'all_held' or verdict == 'limit_exceeded'
  if may_return and line.next_release_ms > 0 and line.next_release_ms <= now_ms then answer[3] = 1 end
  for _, value in ipairs({line.sku, line.quantity, line.available, verdict, line.free, line.next_release_ms}) do
    answer[#answer + 1] = value
  end
  packed[#packed + 1] = line.sku .. '=' .. string.format('%d', line.quantity)
  if line.counted then counted[#counted + 1] = line.sku end
end
if refused then return answer end
packed = table.concat(packed, ' ')
local deadline_ms, seq = now_ms + hold_ms, string.format('%d', meta[3] + 1)

-- Nothing below this line can refuse.
redis.call('XADD', ledger_key, meta[2] .. '-' .. seq, 'op', 'reserve', 'at_ms', now_ms, 'actor', actor, 'user', user,
  'reservation_id', id, 'lines', packed, 'deadline_ms', deadline_ms, 'payment_id', '', 'reason', '',
  'request_id', request_id, 'detail', fingerprint)
redis.call('HSET', meta_key, 'seq', seq, 'clock_ms', now_ms)
for _, line in ipairs(lines) do
  redis.call('HSET', line.sku_key, 'available', line.available - line.quantity, 'reserved', line.reserved + line.quantity)
  if line.next_release_ms == 0 or deadline_ms < line.next_release_ms then
    redis.call('HSET', line.sku_key, 'next_release_ms', deadline_ms)
  end
  if line.counted then redis.call('HINCRBY', line.buyers_key, user, line.quantity) end
end
local record = {'state', 'reserved', 'user', user, 'lines', packed, 'created_ms', now_ms, 'deadline_ms', deadline_ms}
if fingerprint ~= '' then record[11], record[12] = 'request', fingerprint end
if #counted > 0 then record[#record + 1], record[#record + 2] = 'counted', table.concat(counted, ' ') end
redis.call('HSET', reservation_key, unpack(record))
redis.call('SET', lease_key, 1, 'PX', hold_ms)
redis.call('ZADD', deadlines_key, deadline_ms, id)
return {'reserved', now_ms, deadline_ms}
