-- open: make an empty store ready to sell. A store that holds keys but has no meta stays closed.
--
-- KEYS[1] meta         hash    gate, epoch, seq, clock_ms, layout
-- KEYS[2] ledger       stream  one event per change, entry id <epoch>-<seq>
-- KEYS[3] deadlines    zset    reservation id -> deadline_ms, live holds only
-- KEYS[4] skus         zset    every SKU, by name
-- ARGV[1] layout       version of the key layout this program knows
-- Returns, in order of precedence:
--   {'layout_unknown', layout}         written by another version; nothing changed
--   {'ready', gate}                    meta is there already
--   {'not_empty'}                      stock without meta: somebody must look; nothing changed
--   {'opened'}
-- Writes: meta
-- Emits: nothing
-- By hand: redis-cli --eval lua/open.lua 'stk:{p0}:meta' 'stk:{p0}:ledger' 'stk:{p0}:deadlines' 'stk:{p0}:skus' , 1

local meta_key, ledger_key, deadlines_key, skus_key, layout = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1]

local meta = redis.call('HMGET', meta_key, 'layout', 'gate')
if meta[1] and meta[1] ~= layout then return {'layout_unknown', meta[1]} end
if meta[1] then return {'ready', meta[2] or 'closed'} end
if redis.call('EXISTS', meta_key, ledger_key, deadlines_key, skus_key) > 0 then return {'not_empty'} end
local time = redis.call('TIME')

-- Nothing below this line can refuse.
redis.call('HSET', meta_key, 'layout', layout, 'gate', 'open', 'epoch', 1, 'seq', 0,
  'clock_ms', time[1] * 1000 + math.floor(time[2] / 1000))
return {'opened'}
