-- Lifts a revocation. KEYS: revocations, their times. ARGV: id.
if redis.call('HDEL', KEYS[1], ARGV[1]) == 1 then
  redis.call('ZREM', KEYS[2], ARGV[1])
  local t = redis.call('TIME')
  redis.call('HSET', KEYS[1], '', t[1] .. '.' .. t[2])
end
return 1
