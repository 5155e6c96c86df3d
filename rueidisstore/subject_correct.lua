-- Corrects what is counted for tasks of a subject. KEYS: held. ARGV: for each task
-- its id, the value as it was read, and its bytes now (empty: the task is gone). A
-- value that has changed since it was read stays.
local sum = tonumber(redis.call('HGET', KEYS[1], '') or 0)
local changed = false
for i = 1, #ARGV, 3 do
  local id, was, bytes = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if redis.call('HGET', KEYS[1], id) == was then
    local before, at = was:match('^(%d+) (%d+)$')
    sum = sum - (before or 0)
    if bytes == '' then
      redis.call('HDEL', KEYS[1], id)
    else
      redis.call('HSET', KEYS[1], id, bytes .. ' ' .. (at or '0'))
      sum = sum + bytes
    end
    changed = true
  end
end
if changed then
  redis.call('HSET', KEYS[1], '', string.format('%.0f', math.max(sum, 0)))
end
return 1
