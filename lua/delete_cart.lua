-- delete_cart: delete a cart. While its id is valid, a mark keeps the id from being taken for an empty cart's.
--
-- KEYS[1] cart         hash    created_ms, user (once bound), sku:<sku> -> units, bought:<reservation id>, deleted
-- ARGV[1] user         who asks, '' for a guest
-- ARGV[2] keep_ms      milliseconds that the mark is kept, 0 for no mark
-- Returns, in order of precedence:
--   {'not_found'}                      it is another user's
--   {'deleted'}                        also when there is none, or it was deleted before
-- Writes: cart
-- Emits: nothing
-- By hand: redis-cli --eval lua/delete_cart.lua 'stk:cart:{ID}' , '' 86400000

local cart_key, user, keep_ms = KEYS[1], ARGV[1], tonumber(ARGV[2])

if (redis.call('HGET', cart_key, 'user') or user) ~= user then return {'not_found'} end

-- Nothing below this line can refuse.
redis.call('DEL', cart_key)
if keep_ms > 0 then
  redis.call('HSET', cart_key, 'deleted', 1)
  redis.call('PEXPIRE', cart_key, keep_ms)
end
return {'deleted'}
