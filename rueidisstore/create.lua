-- Creates a task unless one with this tag is there: one winner, nothing half made.
-- KEYS: task, log, state, lease. ARGV: open TTL (ms), StreamTTL, RecordTTL, 1 if the
-- task is over already, status, how long (ms) somebody has to acquire the task or
-- 0, then the record's fields and values.
-- Gives 1, or the record that is there.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.call('HGETALL', KEYS[1])
end
local t = redis.call('TIME')
local ms = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
local stream, record = ARGV[1], ARGV[1]
if ARGV[4] == '1' then
  stream, record = ARGV[2], ARGV[2] + ARGV[3]
end
-- The record last: without it there is no task, should a right be missing by now.
--
-- An entry without events, so that the key exists from the beginning.
redis.call('XADD', KEYS[2], ms .. '-0', 'b', '\1\0', 't', '0:0:\0\0')
redis.call('PEXPIRE', KEYS[2], stream)
redis.call('SET', KEYS[3], struct.pack('<ddddddB', ms, 0, 0, 0, 0, 0, ARGV[4]) .. string.rep('\0', 64), 'PX', stream)
-- A lease that nobody has: a script whose key is missing would be refused while
-- the slot moves.
redis.call('HSET', KEYS[4], 'fence', '0')
if ARGV[6] ~= '0' then -- it is an orphan after that; see lease_acquire.lua
  redis.call('HSET', KEYS[4], 'holder', '', 'until', string.format('%.0f', ms + ARGV[6]), 'ttl', ARGV[6])
end
redis.call('PEXPIRE', KEYS[4], stream)
redis.call('HSET', KEYS[1], 'born', ms, unpack(ARGV, 7))
redis.call('PEXPIRE', KEYS[1], record)
return 1
