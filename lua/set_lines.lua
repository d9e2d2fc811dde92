-- set_lines: make these, and no others, the lines of a cart. Stock is not touched.
--
-- KEYS[1] cart         hash    created_ms, user (once bound), sku:<sku> -> units, bought:<reservation id>, deleted
-- ARGV[1] user         who asks, '' for a guest
-- ARGV[2] owner        whose the cart becomes if it is made, '' for a guest's
-- ARGV[3] may_make     1: its id was issued and is still valid, so the cart is made if it isn't there
-- ARGV[4] most         lines that a cart may have
-- ARGV[5] ttl_ms       milliseconds that a user's cart lives from now on
-- ARGV[6] guest_ttl_ms milliseconds that a guest's cart lives from now on
-- ARGV[7] only_new     1: a cart that is there stays as it is
-- ARGV[8], [10] ... sku  ARGV[9], [11] ... quantity  units, each SKU once
-- Returns, in order of precedence:
--   {'not_found'}                      there is none and it may not be made, it was deleted, or it is another user's
--   {'too_many_lines'}
--   {'set'}                            also when only_new finds a cart; then nothing is written
-- Writes: cart
-- Emits: nothing
-- By hand: redis-cli --eval lua/set_lines.lua 'stk:cart:{ID}' , '' '' 0 200 604800000 86400000 0 SKU 2

local cart_key, user, owner, may_make, most = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local ttl_ms, guest_ttl_ms, only_new, first = ARGV[5], ARGV[6], ARGV[7], 8

local created_ms, bound_to, deleted = unpack(redis.call('HMGET', cart_key, 'created_ms', 'user', 'deleted'))
if deleted or not created_ms and may_make ~= '1' then return {'not_found'} end
if created_ms then owner = bound_to or '' end
if owner ~= '' and owner ~= user then return {'not_found'} end
if (#ARGV - first + 1) / 2 > most then return {'too_many_lines'} end
if created_ms and only_new == '1' then return {'set'} end

-- Nothing below this line can refuse.
if not created_ms then
  local time = redis.call('TIME')
  redis.call('HSET', cart_key, 'created_ms', time[1] * 1000 + math.floor(time[2] / 1000))
  if owner ~= '' then redis.call('HSET', cart_key, 'user', owner) end
end
for _, field in ipairs(redis.call('HKEYS', cart_key)) do
  if string.sub(field, 1, 4) == 'sku:' then redis.call('HDEL', cart_key, field) end
end
for i = first, #ARGV, 2 do redis.call('HSET', cart_key, 'sku:' .. ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', cart_key, owner == '' and guest_ttl_ms or ttl_ms)
return {'set'}
