-- Notes that somebody wants the task cancelled; the first reason stays.
-- KEYS: task, lease. ARGV: incarnation, reason, now (µs). Gives the record, or 0.
local r = redis.call('HMGET', KEYS[1], 'id', 'status', 'cancel', 'updated', 'again')
if r[1] ~= ARGV[1] then
  return 0
end
-- A full Redis refuses these writes, unless the script has written before; see append.lua.
redis.call('HDEL', KEYS[1], '')
local over = r[2] == 'COMPLETED' or r[2] == 'FAILED' or r[2] == 'CANCELLED'
if not over and not r[3] then
  local updated = r[4]
  if tonumber(ARGV[3]) > tonumber(updated) then
    updated = ARGV[3]
  end
  redis.call('HSET', KEYS[1], 'cancel', ARGV[2], 'updated', updated)
end
if not over and r[5] and not redis.call('HGET', KEYS[2], 'holder') then
  -- It waits, and nobody would hear of it: an orphan from now on, as
  -- lease_check.lua knows them.
  local t = redis.call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  local till = string.format('%.0f', now)
  redis.call('HSET', KEYS[2], 'holder', '', 'until', till, 'ttl', '3000',
    'seen', till, 'seenat', string.format('%.0f', now - 1000))
  redis.call('PEXPIRE', KEYS[2], math.max(redis.call('PTTL', KEYS[1]), 1))
end
return redis.call('HGETALL', KEYS[1])
