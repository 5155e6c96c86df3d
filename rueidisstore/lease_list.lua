-- Says when to look at leases. KEYS: index. ARGV: delay (ms), TTL of the index
-- (ms), '1' to leave those alone that are there, then task ids.
local t = redis.call('TIME')
local at = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[1])
for i = 4, #ARGV do
  if ARGV[3] == '1' then
    redis.call('ZADD', KEYS[1], 'NX', at, ARGV[i])
  else
    redis.call('ZADD', KEYS[1], at, ARGV[i])
  end
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
