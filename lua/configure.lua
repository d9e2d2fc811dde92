-- configure: create a SKU, recount its stock, change its attributes; all that was asked for or nothing.
--
-- KEYS[1] meta         hash    gate, epoch, seq, clock_ms
-- KEYS[2] ledger       stream  one event per change, entry id <epoch>-<seq>
-- KEYS[3] sku          hash    counters and attributes
-- KEYS[4] operation    string  answer of this very call, so that sending it again changes nothing
-- KEYS[5] skus         zset    every SKU, by name
-- ARGV[1] sku
-- ARGV[2] on_hand      units counted, '' to leave the counters alone
-- ARGV[3] actor  ARGV[4] request_id
-- ARGV[5] call         names this very call
-- ARGV[6] keep_ms      milliseconds to keep the answer
-- ARGV[7] reason       of an operator
-- ARGV[8] lever        '' for the service's own call; of an operator do, or dry_run: check everything, write nothing
-- ARGV[9], [11] ... attribute   name, limit_per_customer, sale_starts_ms, sale_ends_ms or paused
-- ARGV[10], [12] ... value      '' clears it
-- Returns, in order of precedence:
--   {'closed'}
--   {'reason_required'}                an operator says why
--   {'bad_request'}                    a lever that is none of these
--   {'wrong_keys'}                     KEYS[3] isn't that of ARGV[1]
--   {'idempotency_key_reused'}
--   {'replayed', 'created' or 'changed', field, value ...}
--   {'stock_below_claims', claims}     on_hand is below reserved + allocated
--   {'sale_ends_before_it_starts'}
--   {'would_create', field, value ...} a dry run: the SKU's whole hash, as it would become
--   {'would_change', field, value ...} the same
--   {'created', field, value ...}      the SKU's whole hash
--   {'changed', field, value ...}      also when nothing is different; then nothing is written, and a dry run says so, too
-- Writes: ledger, meta, sku, skus, operation
-- Emits: recount (lines as 'sku=change', which may be below 0), or configure if only attributes change; the detail
--   says which attributes became what; so does the reason, unless it is an operator's
-- By hand: redis-cli --eval lua/configure.lua 'stk:{p0}:meta' 'stk:{p0}:ledger' 'stk:{p0}:sku:SKU' 'stk:{p0}:op:CALL' 'stk:{p0}:skus' , SKU '' ACTOR REQUEST CALL 86400000 REASON dry_run paused 1

local meta_key, ledger_key, sku_key, operation_key, skus_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local sku, on_hand, actor, request_id, fingerprint, keep_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local reason, lever = ARGV[7], ARGV[8]

local meta = redis.call('HMGET', meta_key, 'gate', 'epoch', 'seq', 'clock_ms')
if meta[1] ~= 'open' then return {'closed'} end
local time = redis.call('TIME')
local now_ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(meta[4]))
if lever ~= '' and not string.find(reason or '', '%S') then return {'reason_required'} end
if lever ~= '' and lever ~= 'do' and lever ~= 'dry_run' then return {'bad_request'} end
if sku_key ~= string.sub(meta_key, 1, -5) .. 'sku:' .. sku then return {'wrong_keys'} end
local done = fingerprint ~= '' and redis.call('GET', operation_key)
if done then
  local space = string.find(done, ' ', 1, true)
  if string.sub(done, 1, space - 1) ~= fingerprint then return {'idempotency_key_reused'} end
  return {'replayed', unpack(cjson.decode(string.sub(done, space + 1)))}
end

local now = {}
local fields = redis.call('HGETALL', sku_key)
for i = 1, #fields, 2 do now[fields[i]] = fields[i + 1] end
local status = now.available and 'changed' or 'created'
if status == 'created' and on_hand == '' then on_hand = '0' end
local claims = (now.reserved or 0) + (now.allocated or 0)
local change = on_hand == '' and 0 or on_hand - (now.on_hand or 0)
if on_hand ~= '' and tonumber(on_hand) < claims then return {'stock_below_claims', claims} end
local different = {}
for i = 9, #ARGV, 2 do
  if (now[ARGV[i]] or '') ~= ARGV[i + 1] then
    different[#different + 1] = {ARGV[i], ARGV[i + 1]}
    now[ARGV[i]] = ARGV[i + 1] ~= '' and ARGV[i + 1] or nil
  end
end
if now.sale_starts_ms and now.sale_ends_ms and tonumber(now.sale_ends_ms) <= tonumber(now.sale_starts_ms) then
  return {'sale_ends_before_it_starts'}
end
if status == 'changed' and change == 0 and #different == 0 then return {status, unpack(fields)} end
local said = {}
for i, attribute in ipairs(different) do said[i] = attribute[1] .. '=' .. attribute[2] end
local recount, seq = status == 'created' or change ~= 0, string.format('%d', meta[3] + 1)
local operation = string.match(operation_key, ':op:(.*)') .. ' ' .. fingerprint
if lever == '' then reason = table.concat(said, ', ') end
now.available, now.on_hand = string.format('%d', (now.available or 0) + change), string.format('%d', (now.on_hand or 0) + change)
now.reserved, now.allocated = now.reserved or '0', now.allocated or '0'
local whole = {}
for field, value in pairs(now) do whole[#whole + 1], whole[#whole + 2] = field, value end
if lever == 'dry_run' then return {status == 'created' and 'would_create' or 'would_change', unpack(whole)} end

-- Nothing below this line can refuse.
redis.call('XADD', ledger_key, meta[2] .. '-' .. seq, 'op', recount and 'recount' or 'configure', 'at_ms', now_ms,
  'actor', actor, 'user', '', 'reservation_id', '', 'lines', sku .. '=' .. string.format('%d', change), 'deadline_ms', '',
  'payment_id', '', 'reason', reason, 'request_id', request_id, 'detail', #different > 0 and cjson.encode(different) or '',
  'counted', '*', 'operation', operation)
redis.call('HSET', meta_key, 'seq', seq, 'clock_ms', now_ms)
if recount then
  redis.call('HSET', sku_key, 'available', now.available, 'reserved', now.reserved, 'allocated', now.allocated,
    'on_hand', now.on_hand)
end
for _, attribute in ipairs(different) do
  if attribute[2] == '' then redis.call('HDEL', sku_key, attribute[1]) else redis.call('HSET', sku_key, attribute[1], attribute[2]) end
end
redis.call('ZADD', skus_key, 0, sku)
local answer = {status, unpack(redis.call('HGETALL', sku_key))}
redis.call('SET', operation_key, fingerprint .. ' ' .. cjson.encode(answer), 'PX', keep_ms)
return answer
