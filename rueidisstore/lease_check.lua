-- Looks whether a lease ran out. KEYS: lease.
-- Gives when (ms from now) to look again; -1: never, nobody holds it; a list: it ran
-- out, was seen overdue, and its holder had a third of the TTL to renew it since, on
-- a server that was up. The list has how often it was taken over before, for how
-- long (ms) it has been offered in vain (a pause in which nobody asked counts as half
-- a minute at most), and 1 if its holder released it for others, else 0.
local l = redis.call('HMGET', KEYS[1], 'holder', 'until', 'ttl', 'seen', 'seenat', 'taken', 'offered', 'fence')
if not l[1] then
  return -1
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local till, grace = tonumber(l[2]), math.ceil(l[3] / 3)
if till > now + l[3] then -- the clock went back
  till = now + l[3]
  redis.call('HSET', KEYS[1], 'until', string.format('%.0f', till))
end
if till - grace > now then
  return till - grace - now
end
-- A full Redis refuses these writes, unless the script has written before; see append.lua.
redis.call('HDEL', KEYS[1], '')
local seen = tonumber(l[5])
if l[4] ~= l[2] or seen > now then -- not seen yet, or renewed since
  redis.call('HSET', KEYS[1], 'seen', l[2], 'seenat', string.format('%.0f', now))
  seen = now
end
local at = math.max(till, seen + grace)
if at > now then
  return at - now
end
local waited, lease, sum, last = 0, string.match(l[7] or '', '^(%d+):(%d+):(%d+)$')
if lease == l[2] then -- not held since
  waited = sum + math.max(math.min(now - last, 30000), 0)
end
redis.call('HSET', KEYS[1], 'offered', string.format('%s:%.0f:%.0f', l[2], waited, now))
-- Without a holder but with a fence: somebody had it. A new task has fence 0.
return {tonumber(l[6] or 0), waited, l[1] == '' and (l[8] or '0') ~= '0' and 1 or 0}
