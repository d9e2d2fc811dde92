-- admit_cart: count a guest's cart among those that are kept, unless there are as many as may be.
--
-- KEYS[1] guest_carts  zset    cart id -> when it stops being counted, Unix ms
-- ARGV[1] id           the cart
-- ARGV[2] ttl_ms       milliseconds that it is counted from now on; longer if it was counted for longer before
-- ARGV[3] most         carts of guests that are kept at once
-- Returns, in order of precedence:
--   {'full', wait_ms}                  the first place is free again after wait_ms
--   {'admitted'}                       also when it was counted already
-- Writes: guest_carts; takes out up to 100 carts whose time has run out
-- Emits: nothing
-- By hand: redis-cli --eval lua/admit_cart.lua stk:guest_carts , ID 86400000 100000

local guest_carts_key, id, ttl_ms, most = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local until_ms = tonumber(redis.call('ZSCORE', guest_carts_key, id) or 0)
if until_ms <= now_ms and redis.call('ZCOUNT', guest_carts_key, '(' .. now_ms, '+inf') >= most then
  local first = redis.call('ZRANGE', guest_carts_key, '(' .. now_ms, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
  return {'full', first[2] - now_ms}
end
local gone = redis.call('ZRANGE', guest_carts_key, '-inf', now_ms, 'BYSCORE', 'LIMIT', 0, 100)
local left_ms = redis.call('PTTL', guest_carts_key)

-- Nothing below this line can refuse.
if #gone > 0 then redis.call('ZREM', guest_carts_key, unpack(gone)) end
redis.call('ZADD', guest_carts_key, math.max(until_ms, now_ms + ttl_ms), id)
redis.call('PEXPIRE', guest_carts_key, math.max(left_ms, ttl_ms))
return {'admitted'}
