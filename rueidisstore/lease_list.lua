-- Says when to look at leases. KEYS: index. ARGV: delay (ms), TTL of the index
-- (ms), 'NX' to leave those alone that are there, 'LT' those that are looked at
-- sooner, or '', then task ids.
local t = redis.call('TIME')
local at = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[1])
if ARGV[3] ~= 'NX' then
  -- A full Redis refuses these writes, unless the script has written before; see
  -- append.lua. New tasks are to be refused: NX is for them.
  redis.call('ZREM', KEYS[1], '')
end
for i = 4, #ARGV do
  if ARGV[3] ~= '' then
    redis.call('ZADD', KEYS[1], ARGV[3], at, ARGV[i])
  else
    redis.call('ZADD', KEYS[1], at, ARGV[i])
  end
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
