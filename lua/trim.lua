-- trim: let events go that Postgres has, and say how far the stream may grow before reserve and extend are refused.
--
-- KEYS[1] meta         hash    gate, epoch, seq, full_seq
-- KEYS[2] ledger       stream  one event per change, entry id <epoch>-<seq>
-- ARGV[1] epoch        of the last event in Postgres
-- ARGV[2] seq          of the same
-- ARGV[3] keep         events kept behind that one; it itself always stays, so that the next can be joined to it
-- ARGV[4] most         events that may wait for Postgres
-- Returns, in order of precedence:
--   {'closed'}                         the gate is shut, or this isn't the epoch any more; nothing changed
--   {'trimmed', entries}
-- Writes: ledger, meta
-- Emits: nothing
-- By hand: redis-cli --eval lua/trim.lua 'stk:{p0}:meta' 'stk:{p0}:ledger' , 1 0 1000 1000000

local meta_key, ledger_key, epoch, seq = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2])
local full_seq = string.format('%d', seq + tonumber(ARGV[4]))

local meta = redis.call('HMGET', meta_key, 'gate', 'epoch', 'seq')
if meta[1] ~= 'open' or meta[2] ~= epoch then return {'closed'} end
local kept = string.format('%d', meta[3] - seq + 1 + ARGV[3])

-- Nothing below this line can refuse.
-- In this order: a Redis that is full refuses to begin with HSET.
local entries = redis.call('XTRIM', ledger_key, 'MAXLEN', '~', kept)
redis.call('HSET', meta_key, 'full_seq', full_seq)
return {'trimmed', entries}
