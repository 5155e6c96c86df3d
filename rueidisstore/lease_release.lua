-- Gives a lease back. The fence stays: what comes after must be higher.
-- KEYS: lease, task. ARGV: holder, '1' to make the task an orphan.
-- Gives 0 if it is not this holder's, 2 if the task is an orphan now, else 1.
local l = redis.call('HMGET', KEYS[1], 'holder', 'ttl')
if l[1] ~= ARGV[1] then
  return 0
end
redis.call('HDEL', KEYS[1], 'holder', 'until', 'ttl', 'seen', 'seenat', 'taken', 'offered')
local orphan = ARGV[2] == '1'
if not orphan then
  -- Nobody would hear any more that it is to be cancelled; see cancel.lua.
  local r = redis.call('HMGET', KEYS[2], 'again', 'cancel', 'status')
  orphan = r[1] and r[2] and r[3] ~= 'COMPLETED' and r[3] ~= 'FAILED' and r[3] ~= 'CANCELLED'
end
if not orphan then
  return 1
end
-- As lease_check.lua leaves it when nobody has renewed for long enough.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local till = string.format('%.0f', now)
redis.call('HSET', KEYS[1], 'holder', '', 'until', till, 'ttl', l[2],
  'seen', till, 'seenat', string.format('%.0f', now - math.ceil(l[2] / 3)))
return 2
