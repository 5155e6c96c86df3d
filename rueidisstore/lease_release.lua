-- Gives a lease back. The fence stays: what comes after must be higher.
-- KEYS: lease. ARGV: holder, '1' to make the task an orphan.
local l = redis.call('HMGET', KEYS[1], 'holder', 'ttl')
if l[1] ~= ARGV[1] then
  return 0
end
redis.call('HDEL', KEYS[1], 'holder', 'until', 'ttl', 'seen', 'seenat', 'taken')
if ARGV[2] == '1' then
  -- As lease_check.lua leaves it when nobody has renewed for long enough.
  local t = redis.call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  local till = string.format('%.0f', now)
  redis.call('HSET', KEYS[1], 'holder', '', 'until', till, 'ttl', l[2],
    'seen', till, 'seenat', string.format('%.0f', now - math.ceil(l[2] / 3)))
end
return 1
