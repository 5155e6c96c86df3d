-- Makes somebody the holder of an open task.
-- KEYS: lease, task, state. ARGV: incarnation, holder, TTL (ms).
-- Gives the fence; 0: unknown task; -1: the task is over; -2: another holder's
-- lease lives.
--
-- A lease is a hash: holder (absent: released; empty: nobody's, and an orphan
-- after until), fence, until and ttl (ms), taken: how often it was taken over
-- since it was released; seen and seenat are notes of lease_check.lua. It is there from the task's creation
-- on. The state has a copy of the fence, so that an append needs no lease.
local r = redis.call('HMGET', KEYS[2], 'id', 'status')
if r[1] ~= ARGV[1] then
  return 0
end
if r[2] == 'COMPLETED' or r[2] == 'FAILED' or r[2] == 'CANCELLED' then
  return -1
end
local l = redis.call('HMGET', KEYS[1], 'holder', 'fence', 'until', 'taken')
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local fence = tonumber(l[2] or 0)
-- A full Redis refuses these writes, unless the script has written before; see append.lua.
redis.call('HDEL', KEYS[1], '')
if l[1] ~= ARGV[2] then
  if l[1] and l[1] ~= '' then
    if tonumber(l[3]) > now then
      return -2
    end
    redis.call('HSET', KEYS[1], 'taken', (l[4] or 0) + 1)
  end
  fence = 0
end
if fence == 0 then
  -- The time in µs, so that it also grows if a failover lost what was there.
  fence = math.max((tonumber(l[2]) or 0) + 1, t[1] * 1000000 + t[2])
end
redis.call('HSET', KEYS[1], 'holder', ARGV[2], 'fence', string.format('%.0f', fence),
  'until', string.format('%.0f', now + ARGV[3]), 'ttl', ARGV[3])
redis.call('PEXPIRE', KEYS[1], math.max(redis.call('PTTL', KEYS[2]), 1))
if redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('SETRANGE', KEYS[3], 40, struct.pack('<d', fence)) -- see append.lua
end
return fence
