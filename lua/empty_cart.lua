-- empty_cart: take what was bought out of a cart, once for each order.
--
-- KEYS[1] cart         hash    created_ms, user (once bound), sku:<sku> -> units, bought:<reservation id>, deleted
-- ARGV[1] id           the order
-- ARGV[2] ttl_ms       milliseconds that the cart lives from now on
-- ARGV[3], [5] ... sku  ARGV[4], [6] ... quantity  units bought
-- Returns, in order of precedence:
--   {'not_found'}                      there is none, or it was deleted
--   {'emptied'}                        also when this order was taken out before; then nothing is written
-- Writes: cart
-- Emits: nothing
-- By hand: redis-cli --eval lua/empty_cart.lua 'stk:cart:{ID}' , ORDER 604800000 SKU 2

local cart_key, id, ttl_ms = KEYS[1], ARGV[1], ARGV[2]

if redis.call('HEXISTS', cart_key, 'created_ms') == 0 then return {'not_found'} end
if redis.call('HEXISTS', cart_key, 'bought:' .. id) == 1 then return {'emptied'} end

-- Nothing below this line can refuse.
redis.call('HSET', cart_key, 'bought:' .. id, 1)
for i = 3, #ARGV, 2 do
  local wanted = tonumber(redis.call('HGET', cart_key, 'sku:' .. ARGV[i]) or 0)
  if wanted > tonumber(ARGV[i + 1]) then
    redis.call('HSET', cart_key, 'sku:' .. ARGV[i], wanted - ARGV[i + 1])
  else
    redis.call('HDEL', cart_key, 'sku:' .. ARGV[i])
  end
end
redis.call('PEXPIRE', cart_key, ttl_ms)
return {'emptied'}
