-- Says when to look again at leases that were taken with lease_due.lua. One
-- that was renewed or taken again meanwhile is left alone.
-- KEYS: index. ARGV: the mark, then for each a task id and a delay (ms), -1 for
-- never.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
-- A full Redis refuses these writes, unless the script has written before; see append.lua.
redis.call('ZREM', KEYS[1], '')
for i = 2, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and tonumber(score) == tonumber(ARGV[1]) then
    if ARGV[i + 1] == '-1' then
      redis.call('ZREM', KEYS[1], ARGV[i])
    else
      redis.call('ZADD', KEYS[1], 'XX', string.format('%.0f', now + ARGV[i + 1]), ARGV[i])
    end
  end
end
return 1
