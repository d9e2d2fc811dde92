-- recall: bring the record of a reservation back that Redis has let go, because its buyer has paid after all.
--
-- KEYS[1] meta         hash    gate
-- KEYS[2] reservation  hash    the record, which must be gone
-- ARGV[1] retain_ms    milliseconds to keep it; 0 for an open order, which stays
-- ARGV[2], [3] ... field, value of the record as Postgres has it
-- Returns, in order of precedence:
--   {'closed'}
--   {'known'}                          it is there; nothing changed
--   {'recalled'}
-- Writes: reservation
-- Emits: nothing
-- By hand: redis-cli --eval lua/recall.lua 'stk:{p0}:meta' 'stk:{p0}:rsv:ID' , 86400000 state expired user USER lines SKU=2 created_ms 1 deadline_ms 2

local meta_key, reservation_key, retain_ms = KEYS[1], KEYS[2], ARGV[1]

if redis.call('HGET', meta_key, 'gate') ~= 'open' then return {'closed'} end
if redis.call('EXISTS', reservation_key) == 1 then return {'known'} end

-- Nothing below this line can refuse.
redis.call('HSET', reservation_key, unpack(ARGV, 2))
if retain_ms ~= '0' then redis.call('PEXPIRE', reservation_key, retain_ms) end
return {'recalled'}
