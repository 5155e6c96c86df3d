-- Says when to look at the suspensions of tasks, unless that is sooner already.
-- KEYS: index. ARGV: TTL of the index (ms), then for each a task id, when (ms),
-- and how long (ms) from now at least.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
for i = 2, #ARGV, 3 do
  redis.call('ZADD', KEYS[1], 'LT', string.format('%.0f', math.max(ARGV[i + 1], now + ARGV[i + 2])), ARGV[i])
end
return redis.call('PEXPIRE', KEYS[1], ARGV[1])
