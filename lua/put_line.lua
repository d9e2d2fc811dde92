-- put_line: set how many units of a SKU a cart wants. Stock is not touched.
--
-- KEYS[1] cart         hash    created_ms, user (once bound), sku:<sku> -> units, bought:<reservation id>, deleted
-- ARGV[1] user         who asks, '' for a guest
-- ARGV[2] owner        whose the cart becomes if it is made, '' for a guest's
-- ARGV[3] may_make     1: its id was issued and is still valid, so the cart is made if it isn't there
-- ARGV[4] most         lines that a cart may have
-- ARGV[5] ttl_ms       milliseconds that a user's cart lives from now on
-- ARGV[6] guest_ttl_ms milliseconds that a guest's cart lives from now on
-- ARGV[7] sku  ARGV[8] quantity  units, 0 takes the line out
-- Returns, in order of precedence:
--   {'not_found'}                      there is none and it may not be made, it was deleted, or it is another user's
--   {'too_many_lines'}
--   {'put'}
-- Writes: cart
-- Emits: nothing
-- By hand: redis-cli --eval lua/put_line.lua 'stk:cart:{ID}' , '' '' 0 200 604800000 86400000 SKU 2

local cart_key, user, owner, may_make, most = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local ttl_ms, guest_ttl_ms, here, quantity = ARGV[5], ARGV[6], 'sku:' .. ARGV[7], tonumber(ARGV[8])

local created_ms, bound_to, deleted = unpack(redis.call('HMGET', cart_key, 'created_ms', 'user', 'deleted'))
if deleted or not created_ms and may_make ~= '1' then return {'not_found'} end
if created_ms then owner = bound_to or '' end
if owner ~= '' and owner ~= user then return {'not_found'} end
local lines = 0
for _, field in ipairs(redis.call('HKEYS', cart_key)) do
  if string.sub(field, 1, 4) == 'sku:' and field ~= here then lines = lines + 1 end
end
if quantity > 0 and lines >= most then return {'too_many_lines'} end

-- Nothing below this line can refuse.
if not created_ms then
  local time = redis.call('TIME')
  redis.call('HSET', cart_key, 'created_ms', time[1] * 1000 + math.floor(time[2] / 1000))
  if owner ~= '' then redis.call('HSET', cart_key, 'user', owner) end
end
if quantity > 0 then redis.call('HSET', cart_key, here, quantity) else redis.call('HDEL', cart_key, here) end
redis.call('PEXPIRE', cart_key, owner == '' and guest_ttl_ms or ttl_ms)
return {'put'}
