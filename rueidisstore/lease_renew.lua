-- Prolongs a lease. KEYS: lease, task. ARGV: incarnation, holder, TTL (ms).
-- Gives 1, or 0 if it is not this holder's any more.
local r = redis.call('HMGET', KEYS[2], 'id', 'status')
if r[1] ~= ARGV[1] then
  return 0 -- gone
end
local l = redis.call('HMGET', KEYS[1], 'holder', 'fence')
local lacking = (not l[1] or l[1] == '') and (l[2] or '0') == '0'
if lacking then
  -- A failover or an eviction took a lease that nobody else has had since; if
  -- there is one, it is that of the task's creation.
  if r[2] == 'COMPLETED' or r[2] == 'FAILED' or r[2] == 'CANCELLED' then
    return 0
  end
elseif l[1] ~= ARGV[2] then
  return 0
end
local t = redis.call('TIME')
local till = t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[3]
-- A full Redis refuses this write, unless the script has written before; see append.lua.
redis.call('HDEL', KEYS[1], '')
redis.call('HSET', KEYS[1], 'holder', ARGV[2], 'until', string.format('%.0f', till), 'ttl', ARGV[3])
if lacking then
  redis.call('PEXPIRE', KEYS[1], math.max(redis.call('PTTL', KEYS[2]), 1))
end
return 1
