#!lua flags=no-writes
-- health: may this server sell, and does everything keep up. It reads, and cannot write: Redis holds the first line to it.
--
-- KEYS[1] meta         hash    gate, gate_reason, run_id, epoch, seq, full_seq, clock_ms, selling_paused, default_hold_ms ...
-- KEYS[2] ledger       stream  one event per change, entry id <epoch>-<seq>
-- KEYS[3] deadlines    zset    reservation id -> deadline_ms, live holds only
-- KEYS[4] keeper       string  name of the keeper that leads, for 3 s
-- ARGV[1] since        a seq from an earlier look, to see how many events there were since; default '': not said
-- Lines: gate, and whether this is the server that was compared with the ledger; keeper; expiry lag; ledger; clock;
--   selling; memory. ALARM stands before what needs somebody: lag and clock from 1 s on, memory from 80 % on.
-- By hand: redis-cli --eval lua/look/health.lua 'stk:{p0}:meta' 'stk:{p0}:ledger' 'stk:{p0}:deadlines' 'stk:{p0}:keeper' , 0

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

local meta_key, ledger_key, deadlines_key, keeper_key, since = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1] or ''
local wrong = refused({{'meta', 'hash'}, {'ledger', 'stream'}, {'deadlines', 'zset'}, {'keeper', 'string'}})
if wrong then return wrong end
if since ~= '' and not number(since) then return {'wrong_argument: since must be a seq, a whole number, not ' .. shown(since)} end
local fields, meta = redis.call('HGETALL', meta_key), {}
for at = 1, #fields, 2 do meta[fields[at]] = fields[at + 1] end
local now_ms, seq, full_seq = clock(meta.clock_ms), number(meta.seq), number(meta.full_seq)
local function check(fine, label, text) lines[#lines + 1] = (fine and '      ' or 'ALARM ') .. string.format('%-14s', label) .. text end
local info = redis.pcall('INFO', 'server', 'replication', 'memory')
local function informed(name) return type(info) == 'string' and string.match(info, '[\r\n]' .. name .. ':(%w+)') end
local here = informed('run_id') and informed('run_id') .. ':' .. (informed('master_replid') or '')
local certified = meta.run_id and shown(meta.run_id) or 'none'

say('HEALTH', 'as of ' .. utc(now_ms))
check(meta.gate == 'open', 'gate', #fields == 0 and 'there is no meta: an empty Redis, or another partition'
  or shown(meta.gate or 'missing') .. (meta.gate_reason and ': ' .. shown(meta.gate_reason) or '')
  .. (meta.restoring and ', being restored' or ''))
if here then
  check(here == meta.run_id, 'server', here == meta.run_id and 'the certified one' or 'this is ' .. here .. ', certified is ' .. certified)
else
  check(true, 'server', 'certified is ' .. certified .. '; compare it with run_id:master_replid of stockade redis-cli INFO everything')
end
local keeper, lease_ms = redis.call('GET', keeper_key), redis.call('PTTL', keeper_key)
check(lease_ms > 0, 'keeper', keeper and shown(keeper) .. ' leads, '
  .. (lease_ms > 0 and 'for another ' .. span(lease_ms) .. ' unless it renews' or 'but its key has no TTL, so that nobody can follow it')
  or 'none leads: only requests end holds, and only commits write the ledger')
local live, due = redis.call('ZCARD', deadlines_key), redis.call('ZCOUNT', deadlines_key, '-inf', now_ms)
local oldest_ms = tonumber(redis.call('ZRANGE', deadlines_key, 0, 0, 'WITHSCORES')[2] or now_ms)
local late_ms = math.max(now_ms - oldest_ms, 0)
check(late_ms < 1000, 'expiry', string.format('%d live holds, %d of them due, the oldest %s late', live, due, span(late_ms)))
local first = redis.call('XRANGE', ledger_key, '-', '+', 'COUNT', 1)[1]
local last = redis.call('XREVRANGE', ledger_key, '+', '-', 'COUNT', 1)[1]
local happened, event = 'of an unknown time', last and last[2] or {}
for at = 1, #event, 2 do if event[at] == 'at_ms' then happened = moment(number(event[at + 1]), now_ms) end end
local at = (meta.epoch or '') .. '-' .. (meta.seq or '')
check(seq and number(meta.epoch), 'ledger', 'epoch ' .. shown(meta.epoch or 'missing') .. ', seq ' .. shown(meta.seq or 'missing')
  .. (seq and since ~= '' and string.format(', %.0f events since %s', seq - number(since), since) or ''))
check(not seq or (last and last[1] or '0') == (last and at or meta.seq), 'stream', redis.call('XLEN', ledger_key) .. ' events'
  .. (last and ', ' .. first[1] .. ' to ' .. last[1] .. ', the last one ' .. happened or ''))
check(not seq or not full_seq or seq < full_seq, 'room', full_seq and seq
  and string.format('%.0f more events until reserve and extend answer closed (full_seq %.0f)', math.max(full_seq - seq, 0), full_seq)
  or 'full_seq ' .. shown(meta.full_seq or 'missing') .. ': the keeper sets it once it has written the ledger')
local ahead_ms = now_ms - clock()
check(ahead_ms < 1000, 'clock', ahead_ms < 1000 and 'not behind clock_ms'
  or 'TIME is ' .. span(ahead_ms) .. ' behind clock_ms: no hold ends before it has caught up')
check(true, 'selling', meta.selling_paused and 'PAUSED: ' .. shown(meta.selling_reason or '') or 'on')
local hold_ms = number(meta.default_hold_ms)
check(not meta.default_hold_ms or hold_ms, 'default_hold', hold_ms and span(hold_ms) .. ', set by an operator'
  or meta.default_hold_ms and shown(meta.default_hold_ms) or 'as each process is configured (STOCKADE_DEFAULT_HOLD_SECONDS)')
local used, most = number(informed('used_memory') or ''), number(informed('maxmemory') or '')
check(not used or most == 0 or used < 0.8 * (most or math.huge), 'memory', not used and 'unknown: see INFO memory'
  or string.format('%.1f MiB used, %s', used / 1048576, most == 0 and 'no limit' or string.format('of %.1f MiB', (most or 0) / 1048576)))
return lines
