-- adopt: put on record what Redis holds now of one SKU, reservation, customers' counts or levers, because the ledger has lost how it came to be.
--
-- KEYS[1] meta         hash    gate, epoch, seq, clock_ms; what operators have set
-- KEYS[2] ledger       stream  one event per change, entry id <epoch>-<seq>
-- KEYS[3] held         hash    that of the SKU, the reservation or the customers' counts; meta once more for levers
-- ARGV[1] kind         sku, reservation, buyers or levers
-- ARGV[2] id           of the reservation, else ''
-- ARGV[3] lines        'SKU=0' of a SKU or its counts; '' for the reservation's own
-- ARGV[4] actor  ARGV[5] reason
-- ARGV[6] ...          fields: all of them if none is named
-- Returns, in order of precedence:
--   {'closed'}
--   {'adopted'}
-- Writes: ledger, meta
-- Emits: adopt. Its detail is a JSON list: the kind, then field, value, field, value; nothing behind the kind: it isn't there. A field
--   that was named and isn't there has the value ''.
-- By hand: redis-cli --eval lua/adopt.lua 'stk:{p0}:meta' 'stk:{p0}:ledger' 'stk:{p0}:sku:SKU' , sku '' SKU=0 ACTOR REASON

local meta_key, ledger_key, held_key = KEYS[1], KEYS[2], KEYS[3]
local kind, id, lines, actor, reason = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local meta = redis.call('HMGET', meta_key, 'gate', 'epoch', 'seq', 'clock_ms')
if meta[1] ~= 'open' then return {'closed'} end
local time = redis.call('TIME')
local now_ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(meta[4]))
local seq = string.format('%d', meta[3] + 1)
local held, found, user = {kind}, {}, ''
if #ARGV > 5 then
  local values = redis.call('HMGET', held_key, unpack(ARGV, 6))
  for at = 6, #ARGV do
    held[#held + 1] = ARGV[at]
    held[#held + 1] = values[at - 5] or ''
  end
else
  for at, word in ipairs(redis.call('HGETALL', held_key)) do held[at + 1] = word end
  for at = 2, #held, 2 do found[held[at]] = held[at + 1] end
end
if kind == 'reservation' then lines, user = found.lines or '', found.user or '' end

-- Nothing below this line can refuse.
redis.call('XADD', ledger_key, meta[2] .. '-' .. seq, 'op', 'adopt', 'at_ms', now_ms, 'actor', actor, 'user', user,
  'reservation_id', id, 'lines', lines, 'deadline_ms', '', 'payment_id', '', 'reason', reason,
  'request_id', '', 'detail', cjson.encode(held), 'counted', '*', 'operation', '')
redis.call('HSET', meta_key, 'seq', seq, 'clock_ms', now_ms)
return {'adopted'}
