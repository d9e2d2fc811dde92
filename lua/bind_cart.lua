-- bind_cart: make a guest's cart its buyer's own, at checkout.
--
-- KEYS[1] cart         hash    created_ms, user (once bound), sku:<sku> -> units, bought:<reservation id>, deleted
-- ARGV[1] user         whose it becomes
-- ARGV[2] ttl_ms       milliseconds that the cart lives from now on
-- Returns, in order of precedence:
--   {'not_found'}                      there is none, it was deleted, or it is another user's
--   {'bound'}                          also when it was so before
-- Writes: cart
-- Emits: nothing
-- By hand: redis-cli --eval lua/bind_cart.lua 'stk:cart:{ID}' , USER 604800000

local cart_key, user, ttl_ms = KEYS[1], ARGV[1], ARGV[2]

if redis.call('HEXISTS', cart_key, 'created_ms') == 0 then return {'not_found'} end
if (redis.call('HGET', cart_key, 'user') or user) ~= user then return {'not_found'} end

-- Nothing below this line can refuse.
redis.call('HSET', cart_key, 'user', user)
redis.call('PEXPIRE', cart_key, ttl_ms)
return {'bound'}
