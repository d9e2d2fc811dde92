#!lua flags=no-writes
-- sku: everything about one SKU on one screen. It reads, and cannot write: Redis holds the first line to it.
--
-- KEYS[1] meta         hash    clock_ms, selling_paused, selling_reason
-- KEYS[2] sku          hash    counters and attributes
-- KEYS[3] buyers       hash    user -> units held and bought since ever
-- ARGV    none
-- Lines: status as a buyer sees it; counters, with their share of on_hand; whether they add up; limit, and how many users
--   hold some or have bought some since ever; window; pauses; next release: no live hold of it ends before that time, but one may end later.
--   BAD stands before a field that is missing or no whole number, and before counters that don't add up.
-- By hand: redis-cli --eval lua/look/sku.lua 'stk:{p0}:meta' 'stk:{p0}:sku:SKU' 'stk:{p0}:buyers:SKU'

-- Letter for letter the same in every script of this folder: whole numbers, text that is safe to show, times, keys.
local prefix, time, down, lines = string.match(KEYS[1] or '', '^(.*:)meta$') or 'stk:{p0}:', redis.call('TIME'), math.floor, {}
local function say(label, text) lines[#lines + 1] = string.format('%-12s ', label) .. text end
local function number(text) return #(text or '') < 16 and tonumber(string.match(text or '', '^%-?%d+$')) or nil end
local function clock(clock_ms) return math.max(time[1] * 1000 + down(time[2] / 1000), number(clock_ms) or 0) end
local function hex(letter) return string.format('%%%02X', string.byte(letter)) end
local function shown(text) return string.gsub(string.sub(text, 1, 64), '[^ !#$&-[%]^-~]', hex) .. (#text > 64 and '...' or '') end
-- Whole, and a % stays as it is: in the name of a key, space, = and % of a SKU are percent-encoded already.
local function named(text) return (string.gsub(text, '[^ !#-[%]^-~]', hex)) end
local function utc(ms)
  local days, s = down(ms / 86400000) + 719468, down(ms / 1000) % 86400
  local at = days % 146097
  local year = down((at - down(at / 1460) + down(at / 36524) - down(at / 146096)) / 365)
  at = at - 365 * year - down(year / 4) + down(year / 100)
  local month = down((5 * at + 2) / 153)
  year = down(days / 146097) * 400 + year + (month > 9 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02dZ', year, (month + 2) % 12 + 1, at - down((153 * month + 2) / 5) + 1,
    s / 3600, s % 3600 / 60, s % 60)
end
local function span(ms)
  local s = math.abs(ms) / 1000
  if s < 60 then return string.format(s < 10 and '%.1f s' or '%d s', s) end
  if s < 3600 then return string.format('%d min %d s', s / 60, s % 60) end
  return string.format('%.0f h %d min', down(s / 3600), s % 3600 / 60)
end
local function moment(ms, now_ms)
  return ms and utc(ms) .. ' (' .. (ms > now_ms and 'in ' or '') .. span(ms - now_ms) .. (ms > now_ms and ')' or ' ago)') or 'unknown'
end
local function refused(wanted)
  if #KEYS ~= #wanted then return {'wrong_keys: ' .. #wanted .. ' are wanted, not ' .. #KEYS .. '; see By hand in the header'} end
  for at, key in ipairs(KEYS) do
    local name, kind = prefix .. wanted[at][1], wanted[at][2]
    local found = key == name and redis.call('TYPE', key).ok or ''
    if found ~= kind and found ~= 'none' then
      return {'wrong_keys: KEYS[' .. at .. '] must be the ' .. kind .. ' ' .. named(name) .. ', not ' .. found .. ' ' .. named(key)}
    end
  end
end

local meta_key, sku_key, buyers_key = KEYS[1], KEYS[2], KEYS[3]
local sku = string.match(sku_key or '', ':sku:(.+)$') or 'SKU'
local wrong = refused({{'meta', 'hash'}, {'sku:' .. sku, 'hash'}, {'buyers:' .. sku, 'hash'}})
if wrong then return wrong end
local meta = redis.call('HMGET', meta_key, 'clock_ms', 'selling_paused', 'selling_reason')
local now_ms, stored, torn = clock(meta[1]), {}, {}
if redis.call('EXISTS', sku_key) == 0 then return {'unknown_sku: there is no ' .. named(sku_key) .. ', as of ' .. utc(now_ms)} end
local fields = redis.call('HGETALL', sku_key)
for at = 1, #fields, 2 do stored[fields[at]] = fields[at + 1] end
local function whole(name, needed)
  local value = number(stored[name])
  if stored[name] and not value then torn[#torn + 1] = name .. ' is no whole number: ' .. shown(stored[name]) end
  if needed and not stored[name] then torn[#torn + 1] = name .. ' is missing' end
  return value
end
local on_hand, available, reserved = whole('on_hand', true), whole('available', true), whole('reserved', true)
local allocated, starts_ms, ends_ms = whole('allocated', true), whole('sale_starts_ms'), whole('sale_ends_ms')
local release_ms, limit = whole('next_release_ms'), whole('limit_per_customer')
local sound = on_hand and available and reserved and allocated
local sum = sound and available + reserved + allocated

local status = not available and 'unknown' or available > 0 and 'available' or (reserved or 0) > 0 and 'all_held' or 'sold_out'
if ends_ms and now_ms >= ends_ms then status = 'ended' end
if starts_ms and now_ms < starts_ms then status = 'not_started' end
if stored.paused or meta[2] then status = 'paused' end
say('SKU', named(sku) .. (stored.name and ', ' .. shown(stored.name) or '') .. ', as of ' .. utc(now_ms))
say('status', status)
local function count(label, units, what)
  local share = units and (on_hand or 0) > 0 and string.format('%6.1f %%', 100 * units / on_hand) or string.format('%8s', '-')
  say(label, units and string.format('%11.0f units%s  %s', units, share, what) or 'unknown')
end
count('on_hand', on_hand, 'in the house')
count('available', available, 'can be reserved now')
count('reserved', reserved, 'claimed by live checkouts')
count('allocated', allocated, 'paid for, not yet shipped')
say(sound and sum ~= on_hand and 'BAD adds up' or 'adds up', not sound and 'unknown' or sum == on_hand and 'yes'
  or string.format('available + reserved + allocated is %.0f, on_hand is %.0f', sum, on_hand))
for _, what in ipairs(torn) do say('BAD field', what) end
say('limit', (limit and string.format('%.0f units a customer', limit) or 'none') .. ', users counted: ' .. redis.call('HLEN', buyers_key))
say('window', (starts_ms and 'from ' .. moment(starts_ms, now_ms) or 'no start') .. ', ' ..
  (ends_ms and 'until ' .. moment(ends_ms, now_ms) or 'no end'))
say('paused', (stored.paused and 'YES' or 'no') .. '; all selling: ' .. (meta[2] and 'PAUSED, ' .. shown(meta[3] or '') or 'on'))
say('next release', release_ms and 'not before ' .. moment(release_ms, now_ms)
  .. (release_ms <= now_ms and '; whoever needs it ends what is due first' or '') or 'none known: no live hold')
return lines
