-- restore: put one hash or string back as the ledger in Postgres has it, while the gate is closed.
--
-- KEYS[1] meta         hash    gate, gate_token
-- KEYS[2] the key      hash or string that is replaced
-- KEYS[3] index        zset    deadlines for a reservation, skus for a SKU
-- KEYS[4] lease        string  of a reservation: gone at the deadline
-- ARGV[1] token        with which the gate was closed
-- ARGV[2] kind         hold (a live reservation), record (any other), sku, hash, more (fields beside those there) or text
-- ARGV[3] name         of the reservation or SKU in the index
-- ARGV[4] until_ms     the deadline of a hold; else when the key is forgotten, 0 for never
-- ARGV[5], [6] ... field, value of the hash; for a text ARGV[5] is its value
-- Returns, in order of precedence:
--   {'taken_over'}                     the gate was closed by somebody else since, or is open; nothing changed
--   {'restored'}
-- Writes: the key, deadlines, lease, skus
-- Emits: nothing
-- By hand: redis-cli --eval lua/restore.lua 'stk:{p0}:meta' 'stk:{p0}:sku:SKU' 'stk:{p0}:skus' , ACTOR sku SKU 0 available 5 reserved 0 allocated 0 on_hand 5

local meta_key, key, index_key, lease_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, kind, name, until_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local meta = redis.call('HMGET', meta_key, 'gate', 'gate_token')
if meta[1] ~= 'closed' or meta[2] ~= token then return {'taken_over'} end
local time = redis.call('TIME')
local left_ms = math.max(until_ms - time[1] * 1000 - math.floor(time[2] / 1000), 1)

-- Nothing below this line can refuse.
if kind ~= 'more' then redis.call('DEL', key) end
if kind == 'text' then redis.call('SET', key, ARGV[5]) elseif #ARGV > 4 then redis.call('HSET', key, unpack(ARGV, 5)) end
if kind == 'hold' then
  redis.call('SET', lease_key, 1, 'PX', left_ms)
  redis.call('ZADD', index_key, until_ms, name)
  return {'restored'}
end
if kind == 'record' then
  redis.call('DEL', lease_key)
  redis.call('ZREM', index_key, name)
end
if kind == 'sku' then redis.call('ZADD', index_key, 0, name) end
if until_ms > 0 then redis.call('PEXPIRE', key, left_ms) end
return {'restored'}
