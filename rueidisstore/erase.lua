-- Removes a task, if it is still this incarnation.
-- KEYS: task, log, state, lease, and acts if it has. ARGV: incarnation.
-- Gives -4 if it has acts that are not declared: see append.lua.
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
  -- What a partial eviction may have left of it.
  return redis.call('UNLINK', unpack(KEYS, 2))
end
if not KEYS[5] and redis.call('HGET', KEYS[1], 'acts') then
  return -4
end
return redis.call('UNLINK', unpack(KEYS))
