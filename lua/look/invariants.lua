#!lua flags=no-writes
-- invariants: what must always be true of one SKU. It reads, and cannot write: Redis holds the first line to it.
--
-- KEYS[1] meta         hash    clock_ms
-- KEYS[2] deadlines    zset    reservation id -> deadline_ms, live holds only
-- KEYS[3] sku          hash    counters, next_release_ms
-- KEYS[4] buyers       hash    user -> units held and bought since ever
-- The holds' own records, rsv:<id>, are not in KEYS: only deadlines knows their names. So: one node, no cluster.
-- ARGV[1] look         live holds of any SKU to look at, 1 to 2000; default 1000. More would keep buyers waiting,
--                      so it stops earlier where their baskets are long (2 MB of lines)
-- Lines: 'ok' or 'BAD' before each rule, '?' where not every live hold was looked at, so that there is no verdict.
--   Not checked: allocated against orders, holds that deadlines lacks (reserved is higher then), the ledger. What checks
--   all of it, with any number of holds: stockade verify.
-- By hand: redis-cli --eval lua/look/invariants.lua 'stk:{p0}:meta' 'stk:{p0}:deadlines' 'stk:{p0}:sku:SKU' 'stk:{p0}:buyers:SKU' , 1000

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

local meta_key, deadlines_key, sku_key, buyers_key, look = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1] or '1000'
local sku = string.match(sku_key or '', ':sku:(.+)$') or 'SKU'
local wrong = refused({{'meta', 'hash'}, {'deadlines', 'zset'}, {'sku:' .. sku, 'hash'}, {'buyers:' .. sku, 'hash'}})
if wrong then return wrong end
-- Units of this SKU in a basket: nil if it has none, false if that can't be read.
local function units_of(sku, basket)
  local stop = string.sub(basket, 1, #sku + 1) == sku .. '=' and #sku + 1 or select(2, string.find(basket, ' ' .. sku .. '=', 1, true))
  return stop and (number(string.match(basket, '^%d+', stop + 1)) or false)
end
local most = number(look) or 0
if most < 1 or most > 2000 then return {'wrong_argument: look must be from 1 to 2000, not ' .. shown(look)} end
if #ARGV > 1 then return {'wrong_argument: look is all there is, not ' .. #ARGV .. ' arguments'} end
local now_ms = clock(redis.call('HGET', meta_key, 'clock_ms'))
if redis.call('EXISTS', sku_key) == 0 then return {'unknown_sku: there is no ' .. named(sku_key) .. ', as of ' .. utc(now_ms)} end

local page, live = redis.call('ZRANGE', deadlines_key, 0, most - 1, 'WITHSCORES'), redis.call('ZCARD', deadlines_key)
local looked, text, held, holds, earliest_ms, odd, counted, short = 0, 0, 0, 0, nil, {}, {}, {}
while looked < #page / 2 and text < 2000000 do
  looked = looked + 1
  local id, deadline = page[2 * looked - 1], page[2 * looked]
  local record = redis.pcall('HMGET', prefix .. 'rsv:' .. id, 'lines', 'state', 'deadline_ms', 'user')
  local units = units_of(sku, record[1] or '')
  text = text + #(record[1] or '')
  if not record[1] or units == false then odd[#odd + 1] = shown(id) .. ' has no record that can be read' end
  if units and record[2] ~= 'reserved' then odd[#odd + 1] = shown(id) .. ' is ' .. shown(record[2] or 'without a state') end
  if units and record[2] == 'reserved' then
    held, holds, earliest_ms = held + units, holds + 1, earliest_ms or tonumber(deadline)
    local user = record[4] or ''
    if record[3] ~= deadline then odd[#odd + 1] = shown(id) .. ' ends ' .. shown(record[3] or 'never') .. ', in deadlines ' .. deadline end
    counted[user] = (counted[user] or 0) + units
  end
end
for user, units in pairs(counted) do
  local found = redis.call('HGET', buyers_key, user)
  local differs = string.format('%s holds %.0f units, counted are %s', shown(user), units, shown(found or 'none'))
  if (number(found) or -1) < units then short[#short + 1] = differs end
end

local stored = redis.call('HMGET', sku_key, 'on_hand', 'available', 'reserved', 'allocated', 'next_release_ms')
local whole, release_ms = looked == live, number(stored[5])
local on_hand, available, reserved, allocated = number(stored[1]), number(stored[2]), number(stored[3]), number(stored[4])
for at = 1, 5 do stored[at] = shown(stored[at] or 'missing') end
local sound = on_hand and available and reserved and allocated
-- Without a verdict where holds that were not looked at could change it.
local function rule(name, right, text, final)
  lines[#lines + 1] = (not right and 'BAD  ' or (whole or final) and 'ok   ' or '?    ') .. name .. ': ' .. text
end
say('SKU', named(sku) .. ', as of ' .. utc(now_ms) .. ', looked at ' .. looked .. ' of ' .. live .. ' live holds of any SKU')
rule('conservation', sound and on_hand == available + reserved + allocated,
  string.format('on_hand %s; available %s + reserved %s + allocated %s', unpack(stored)), true)
rule('range', sound and math.min(on_hand, available, reserved, allocated) >= 0, 'counters are whole numbers from 0 on', true)
rule('holds', reserved and (reserved == held or not whole and reserved > held),
  string.format('reserved %s, %.0f units in %d live holds', stored[3], held, holds) .. (whole and '' or ', which are not all'))
rule('deadlines', #odd == 0, #odd == 0 and 'the holds end when deadlines says' or table.concat(odd, '; ', 1, math.min(#odd, 5))
  .. ('; ' .. #odd .. ' in all'))
rule('next_release', not earliest_ms or release_ms and release_ms > 0 and release_ms <= earliest_ms,
  'next_release_ms is ' .. stored[5]
  .. (earliest_ms and string.format(', the earliest deadline %.0f (%s)', earliest_ms, utc(earliest_ms)) or ', no live hold seen'),
  earliest_ms)
rule('limits', #short == 0, #short == 0 and 'no user holds more than is counted' or table.concat(short, '; ', 1, math.min(#short, 5))
  .. ('; ' .. #short .. ' in all'))
if not whole then say('no verdict', 'for ?: not every live hold was looked at; use stockade verify') end
return lines
