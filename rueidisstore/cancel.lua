-- Notes that somebody wants the task cancelled; the first reason stays.
-- KEYS: task. ARGV: incarnation, reason, now (µs). Gives the record, or 0.
local r = redis.call('HMGET', KEYS[1], 'id', 'status', 'cancel', 'updated')
if r[1] ~= ARGV[1] then
  return 0
end
local over = r[2] == 'COMPLETED' or r[2] == 'FAILED' or r[2] == 'CANCELLED'
if not over and not r[3] then
  local updated = r[4]
  if tonumber(ARGV[3]) > tonumber(updated) then
    updated = ARGV[3]
  end
  redis.call('HSET', KEYS[1], 'cancel', ARGV[2], 'updated', updated)
end
return redis.call('HGETALL', KEYS[1])
