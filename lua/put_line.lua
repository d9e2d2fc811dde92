-- put_line: set how many units of a SKU a cart wants. Stock is not touched.
--
-- KEYS[1] cart         hash    created_ms, user (once bound), sku:<sku> -> units, bought:<reservation id>
-- ARGV[1] sku  ARGV[2] quantity  units, 0 takes the line out
-- ARGV[3] user         who asks, '' for a guest
-- ARGV[4] most         lines that a cart may have
-- ARGV[5] ttl_ms       milliseconds that the cart lives from now on
-- Returns, in order of precedence:
--   {'not_found'}                      there is none, or it is another user's
--   {'too_many_lines'}
--   {'put'}
-- Writes: cart
-- Emits: nothing
-- By hand: redis-cli --eval lua/put_line.lua 'stk:cart:{ID}' , SKU 2 '' 200 604800000

local cart_key, sku, quantity, user = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]
local most, ttl_ms = tonumber(ARGV[4]), ARGV[5]

if redis.call('EXISTS', cart_key) == 0 then return {'not_found'} end
if (redis.call('HGET', cart_key, 'user') or user) ~= user then return {'not_found'} end
local lines, here = 0, 'sku:' .. sku
for _, field in ipairs(redis.call('HKEYS', cart_key)) do
  if string.sub(field, 1, 4) == 'sku:' and field ~= here then lines = lines + 1 end
end
if quantity > 0 and lines >= most then return {'too_many_lines'} end

-- Nothing below this line can refuse.
if quantity > 0 then redis.call('HSET', cart_key, here, quantity) else redis.call('HDEL', cart_key, here) end
redis.call('PEXPIRE', cart_key, ttl_ms)
return {'put'}
