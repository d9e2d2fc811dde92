#!lua flags=no-writes
-- holders: who holds one SKU. It reads, and cannot write: Redis holds the first line to it.
--
-- KEYS[1] meta         hash    clock_ms
-- KEYS[2] deadlines    zset    reservation id -> deadline_ms, live holds only
-- KEYS[3] sku          hash    reserved, next_release_ms
-- The holds' own records, rsv:<id>, are not in KEYS: only deadlines knows their names. So: one node, no cluster.
-- ARGV[1] look         live holds of any SKU to look at, 1 to 2000; default 1000. More would keep buyers waiting,
--                      so it stops earlier where their baskets are long (2 MB of lines)
-- ARGV[2] cursor       where to go on, as the last line says; '0' for the first hold of all; default '': the SKU's
--                      next_release_ms, before which none of its holds ends
-- Lines: what was looked at; users of this SKU, who holds most first; its holds, earliest deadline first; how to go on.
--   Totals are over all that was looked at; at most 100 users and 100 holds are listed.
-- By hand: redis-cli --eval lua/look/holders.lua 'stk:{p0}:meta' 'stk:{p0}:deadlines' 'stk:{p0}:sku:SKU' , 1000 ''

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

local meta_key, deadlines_key, sku_key, look, cursor = KEYS[1], KEYS[2], KEYS[3], ARGV[1] or '1000', ARGV[2] or ''
local sku = string.match(sku_key or '', ':sku:(.+)$') or 'SKU'
local wrong = refused({{'meta', 'hash'}, {'deadlines', 'zset'}, {'sku:' .. sku, 'hash'}})
if wrong then return wrong end
-- Units of this SKU in a basket: nil if it has none, false if that can't be read.
local function units_of(sku, basket)
  local stop = string.sub(basket, 1, #sku + 1) == sku .. '=' and #sku + 1 or select(2, string.find(basket, ' ' .. sku .. '=', 1, true))
  return stop and (number(string.match(basket, '^%d+', stop + 1)) or false)
end
local most, from, skip = number(look) or 0, string.match(cursor, '^(%d+)%+?(%d*)$')
if most < 1 or most > 2000 then return {'wrong_argument: look must be from 1 to 2000, not ' .. shown(look)} end
if cursor ~= '' and not number(from) then return {'wrong_argument: cursor must be as a last line said, not ' .. shown(cursor)} end
if #ARGV > 2 then return {'wrong_argument: look and cursor are all there is, not ' .. #ARGV .. ' arguments'} end

local now_ms = clock(redis.call('HGET', meta_key, 'clock_ms'))
local counters = redis.call('HMGET', sku_key, 'reserved', 'next_release_ms')
from, skip = from or number(counters[2]) and counters[2] or '-inf', number(skip) or 0
local page = redis.call('ZRANGE', deadlines_key, from, '+inf', 'BYSCORE', 'LIMIT', skip, most, 'WITHSCORES')
local looked, text, total, holds, held, users, of, unreadable = 0, 0, 0, {}, 0, {}, {}, 0
while looked < #page / 2 and text < 2000000 do
  looked = looked + 1
  local id, deadline_ms = page[2 * looked - 1], tonumber(page[2 * looked])
  local record = redis.pcall('HMGET', prefix .. 'rsv:' .. id, 'lines', 'user', 'created_ms')
  local units = units_of(sku, record[1] or '')
  text = text + #(record[1] or '')
  if not record[1] or units == false then unreadable = unreadable + 1 end
  if units then
    local user, created_ms, left_ms = record[2] or '', number(record[3]), deadline_ms - now_ms
    if not of[user] then
      of[user] = {name = user, units = 0, holds = 0}
      users[#users + 1] = of[user]
    end
    of[user].units, of[user].holds = of[user].units + units, of[user].holds + 1
    total, held = total + units, held + 1
    if held <= 100 then
      holds[held] = string.format('%9.0f  %-14s%-18s%s  %-24s%s', units,
        created_ms and span(now_ms - created_ms) or 'unknown', (left_ms > 0 and '' or 'due ') .. span(left_ms), utc(deadline_ms),
        shown(id), shown(user))
    end
  end
end
table.sort(users, function(a, b) return a.units > b.units or a.units == b.units and a.name < b.name end)

say('SKU', named(sku) .. ', as of ' .. utc(now_ms))
if redis.call('EXISTS', sku_key) == 0 then say('unknown_sku', 'there is no ' .. named(sku_key)) end
say('reserved', shown(counters[1] or 'unknown') .. ' units by its counter')
say('found', string.format('%.0f units in %d holds of %d users, among %d live holds of any SKU', total, held, #users, looked))
if unreadable > 0 then say('BAD records', unreadable .. ' live holds have none that can be read; run stockade verify') end
if held > 0 then lines[#lines + 1] = '    units  holds  user' end
for at = 1, math.min(#users, 100) do
  lines[#lines + 1] = string.format('%9.0f%7d  %s', users[at].units, users[at].holds, shown(users[at].name))
end
if #users > 100 then say('', 'and ' .. #users - 100 .. ' more users') end
if held > 0 then lines[#lines + 1] = '    units  age           left              deadline              id                      user' end
for _, hold in ipairs(holds) do lines[#lines + 1] = hold end
if held > 100 then say('', 'and ' .. held - 100 .. ' more holds: look at fewer at once to see them') end
local more, last, ties = redis.call('ZCOUNT', deadlines_key, from, '+inf') - skip - looked, page[2 * looked], 0
while ties < looked and page[2 * (looked - ties)] == last do ties = ties + 1 end
if last == from then ties = ties + skip end
say('more', more > 0 and string.format('%.0f live holds; go on with: , %.0f %s+%d', more, most, last, ties)
  or 'no: the last live hold was looked at')
return lines
