-- Notes that somebody has the answer to a suspension.
-- KEYS: acts, and lease if there is a fence. ARGV: suspension, fence.
-- Gives 1, or -3 if the lease was acquired with a higher fence since.
if KEYS[2] then
  local fence = redis.call('HGET', KEYS[2], 'fence')
  if fence and tonumber(fence) > tonumber(ARGV[2]) then
    return -3
  end
end
local m = redis.call('HGET', KEYS[1], 'm:' .. ARGV[1])
if m and string.sub(m, 1, 1) == 'a' then
  redis.call('HSET', KEYS[1], 'm:' .. ARGV[1], 'h' .. string.sub(m, 2))
  redis.call('HDEL', KEYS[1], 'w:' .. ARGV[1])
end
return 1
