#!lua flags=no-writes
-- reservation: everything about one reservation. It reads, and cannot write: Redis holds the first line to it.
--
-- KEYS[1] meta         hash    clock_ms
-- KEYS[2] deadlines    zset    reservation id -> deadline_ms, live holds only
-- KEYS[3] reservation  hash    the hold, which may have become an order
-- KEYS[4] lease        string  gone at the deadline, which wakes the sweeper
-- The counters of its SKUs, sku:<sku>, are not in KEYS: only its lines name them. So: one node, no cluster.
-- ARGV    none
-- Lines: its fields, with what may happen next; refunds as 'payment: sku=requested/available/verdict'; a line for each SKU (of 200
--   at most) with its counters; for a live hold the command that ends it by force, first as a dry run: one of stockade where a SKU
--   can't be pasted. BAD stands before what doesn't agree. SKUs are shown as in keys, letters that aren't ASCII percent-encoded.
-- By hand: redis-cli --eval lua/look/reservation.lua 'stk:{p0}:meta' 'stk:{p0}:deadlines' 'stk:{p0}:rsv:ID' 'stk:{p0}:lease:ID'

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

local meta_key, deadlines_key, reservation_key, lease_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id = string.match(reservation_key or '', ':rsv:(.+)$') or 'ID'
local wrong = refused({{'meta', 'hash'}, {'deadlines', 'zset'}, {'rsv:' .. id, 'hash'}, {'lease:' .. id, 'string'}})
if wrong then return wrong end
local now_ms, of, refunds = clock(redis.call('HGET', meta_key, 'clock_ms')), {}, {}
local fields, scored = redis.call('HGETALL', reservation_key), redis.call('ZSCORE', deadlines_key, id)
if #fields == 0 then
  say('not_found', shown(reservation_key) .. ' is not in Redis, as of ' .. utc(now_ms) .. ': it never was, or ended over 24 h ago')
  say(scored and 'BAD deadlines' or 'deadlines', scored and 'has it all the same, at ' .. scored or 'has it neither')
  say('look', 'stockade explain ' .. shown(id))
  return lines
end
for at = 1, #fields, 2 do
  of[fields[at]] = fields[at + 1]
  local payment = string.match(fields[at], '^refund:(.*)$')
  if payment then refunds[#refunds + 1] = shown(payment) .. ': ' .. named(fields[at + 1]) end
end
local state, deadline_ms, live = of.state or '', number(of.deadline_ms), of.state == 'reserved'
local left_ms = deadline_ms and deadline_ms - now_ms
local due = live and left_ms and left_ms <= 0
local next_moves = {
  reserved = due and 'expire: its time is up' or 'commit (paid), release (given up), expire (time is up)',
  committed = 'fulfil (shipped), cancel (called off)', released = 'commit, by a late payment, if all lines can still be had',
  expired = 'commit, by a late payment, if all lines can still be had', fulfilled = 'nothing: the end', cancelled = 'nothing: the end',
}
say('reservation', shown(id) .. ', as of ' .. utc(now_ms))
say(next_moves[state] and 'state' or 'BAD state', state == '' and 'missing' or shown(state))
say('next', next_moves[state] or 'unknown')
say('user', shown(of.user or 'missing'))
say('created', moment(number(of.created_ms), now_ms))
say('deadline', moment(deadline_ms, now_ms))
if live then
  local lease_ms = redis.call('PTTL', lease_key)
  local apart_ms = lease_ms >= 0 and left_ms and math.abs(lease_ms - math.max(left_ms, 0))
  say('lease', lease_ms < 0 and (due and 'gone, as it should be' or 'gone or endless: the keeper still finds the hold by its deadline')
    or 'ends in ' .. span(lease_ms) .. (apart_ms and apart_ms < 1000 and ', as the deadline says' or ', which is not the deadline'))
end
local agrees = live and scored and scored == of.deadline_ms or not live and not scored
say(agrees and 'deadlines' or 'BAD deadlines', (scored and 'has it at ' .. scored or 'has it not') .. (agrees and ', as it should' or ''))
say('payment', of.payment_id and shown(of.payment_id) .. ', committed ' .. moment(number(of.committed_ms), now_ms)
  .. (of.late == '1' and ', late: after the hold had ended' or '') or 'none')
if of.attempt then say('attempt', shown(of.attempt) .. ', the last one that the provider told of') end
for _, part in ipairs({'fulfilled', 'cancelled'}) do if of[part] then say(part, named(of[part])) end end
for _, refund in ipairs(refunds) do say('refund', refund) end
if of.cart then say('cart', shown(of.cart)) end
local ttl_ms = redis.call('PTTL', reservation_key)
say('kept', ttl_ms < 0 and 'until it ends' or 'for another ' .. span(ttl_ms))
local keys, sound, plain = {meta_key, prefix .. 'ledger', deadlines_key, reservation_key, lease_key}, string.match(id, '^[%w._:-]+$'), true
for word in string.gmatch(string.sub(of.lines or '', 1, 120000), '%S+') do
  local sku, units = string.match(word, '^([^=]+)=(%d+)$')
  sound, plain = sound and sku, plain and string.match(sku or '', '^[!#-&(-[%]^-~]+$')
  local stored = sku and redis.pcall('HMGET', prefix .. 'sku:' .. sku, 'on_hand', 'available', 'reserved', 'allocated') or {}
  for at = 1, 4 do stored[at] = shown(stored[at] or 'missing') end
  say(sku and 'line' or 'BAD line', sku and units .. ' units of ' .. named(sku) .. ': '
    .. string.format('on_hand %s, available %s, reserved %s, allocated %s', unpack(stored)) or shown(word))
  keys[#keys + 1], keys[#keys + 2] = prefix .. 'sku:' .. (sku or ''), prefix .. 'buyers:' .. (sku or '')
end
if #keys == 5 then say('BAD lines', 'missing') end
if live and not due and not (sound and #keys > 5) then say('by force', 'no command, because its lines are torn: run stockade verify')
elseif live and not due then
  say('by force', 'this is a dry run; then ' .. (plain and 'do instead of dry_run' or 'without --dry-run') .. ', with your own reason:')
  lines[#lines + 1] = plain and "stockade redis-cli --eval lua/release.lua '" .. table.concat(keys, "' '") .. "' , " .. id
    .. " redis-cli by-hand 'released by on-call' 86400000 dry_run" or 'stockade release ' .. id .. " --reason 'by on-call' --dry-run"
end
return lines
