-- Looks whether a lease ran out. KEYS: lease.
-- Gives when (ms from now) to look again; -1: never, nobody holds it; -2 or less:
-- it ran out, was seen overdue, and its holder had a third of the TTL to renew it
-- since, on a server that was up; below -2, it was taken over that often before.
local l = redis.call('HMGET', KEYS[1], 'holder', 'until', 'ttl', 'seen', 'seenat', 'taken')
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
local seen = tonumber(l[5])
if l[4] ~= l[2] or seen > now then -- not seen yet, or renewed since
  redis.call('HSET', KEYS[1], 'seen', l[2], 'seenat', string.format('%.0f', now))
  seen = now
end
local at = math.max(till, seen + grace)
if at > now then
  return at - now
end
return -2 - (l[6] or 0)
