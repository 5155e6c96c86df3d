-- Puts into the acts what the record knows of open suspensions and they do not:
-- they were evicted, or a version before this one opened them.
-- KEYS: task, acts. ARGV: incarnation, then for each its id, when it expires (ms)
-- or 0, and its allowed actions (JSON).
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
  return 0
end
for i = 2, #ARGV, 3 do
  local name = ARGV[i]
  local open = redis.call('HGET', KEYS[1], 's:' .. name)
  if open and not redis.call('HGET', KEYS[2], 'm:' .. name) then
    local ordinal, payload = string.match(open, '^(%d+):(.*)$')
    redis.call('HSET', KEYS[2], 'm:' .. name, 'o:' .. ordinal .. ':' .. ARGV[i + 1] .. ':0:0:',
      'p:' .. name, payload, 'a:' .. name, ARGV[i + 2])
    redis.call('PEXPIRE', KEYS[2], math.max(redis.call('PTTL', KEYS[1]), 1))
    redis.call('HSET', KEYS[1], 'acts', redis.call('HGET', KEYS[1], 'acts') or 0)
  end
end
return 1
