-- adopt: put on record what Redis holds now of one SKU, reservation, customers' counts or levers, because the ledger has lost how it came to be.
--
-- KEYS[1] meta         hash    gate, gate_token, epoch, seq, clock_ms; what operators have set
-- KEYS[2] ledger       stream  one event per change, entry id <epoch>-<seq>
-- KEYS[3] held         hash    that of the SKU, the reservation or the customers' counts; meta once more for levers
-- ARGV[1] token        with which the gate was closed
-- ARGV[2] kind         sku, reservation, buyers or levers
-- ARGV[3] id           of the reservation, else ''
-- ARGV[4] lines        'SKU=0' of a SKU or its counts; '' for the reservation's own
-- ARGV[5] actor  ARGV[6] reason
-- ARGV[7] ...          fields: all of them if none is named
-- Returns, in order of precedence:
--   {'taken_over'}                     the gate was closed by somebody else since, or is open; nothing changed
--   {'adopted', epoch, seq}
-- Writes: ledger, meta
-- Emits: adopt. Its detail is a JSON list: the kind, then field, value, field, value; nothing behind the kind: it isn't there. A field
--   that was named and isn't there has the value ''.
-- By hand: redis-cli --eval lua/adopt.lua 'stk:{p0}:meta' 'stk:{p0}:ledger' 'stk:{p0}:sku:SKU' , ACTOR sku '' SKU=0 ACTOR REASON

local meta_key, ledger_key, held_key = KEYS[1], KEYS[2], KEYS[3]
local token, kind, id, lines, actor, reason = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]

local meta = redis.call('HMGET', meta_key, 'gate', 'gate_token', 'epoch', 'seq', 'clock_ms')
if meta[1] ~= 'closed' or meta[2] ~= token then return {'taken_over'} end
local time = redis.call('TIME')
local now_ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(meta[5]))
local seq = string.format('%d', meta[4] + 1)
local held, found, user = {kind}, {}, ''
if #ARGV > 6 then
  local values = redis.call('HMGET', held_key, unpack(ARGV, 7))
  for at = 7, #ARGV do
    held[#held + 1] = ARGV[at]
    held[#held + 1] = values[at - 6] or ''
  end
else
  for at, word in ipairs(redis.call('HGETALL', held_key)) do held[at + 1] = word end
  for at = 2, #held, 2 do found[held[at]] = held[at + 1] end
end
if kind == 'reservation' then lines, user = found.lines or '', found.user or '' end

-- Nothing below this line can refuse.
redis.call('XADD', ledger_key, meta[3] .. '-' .. seq, 'op', 'adopt', 'at_ms', now_ms, 'actor', actor, 'user', user,
  'reservation_id', id, 'lines', lines, 'deadline_ms', '', 'payment_id', '', 'reason', reason,
  'request_id', '', 'detail', cjson.encode(held), 'counted', '*', 'operation', '')
redis.call('HSET', meta_key, 'seq', seq, 'clock_ms', now_ms)
return {'adopted', tonumber(meta[3]), tonumber(seq)}
