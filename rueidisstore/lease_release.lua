-- Gives a lease back. The fence stays: what comes after must be higher.
-- KEYS: lease. ARGV: holder.
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then
  return 0
end
return redis.call('HDEL', KEYS[1], 'holder', 'until', 'ttl', 'seen', 'seenat')
