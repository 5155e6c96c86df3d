-- Removes a task, if it is still this incarnation.
-- KEYS: task, log, state, lease. ARGV: incarnation.
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
  -- What a partial eviction may have left of it.
  return redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4])
end
return redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
