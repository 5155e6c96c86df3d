-- Removes a task, if it is still this incarnation.
-- KEYS: task, then all other keys of it. ARGV: incarnation.
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
  -- What a partial eviction may have left of it.
  return redis.call('UNLINK', unpack(KEYS, 2))
end
return redis.call('UNLINK', unpack(KEYS))
