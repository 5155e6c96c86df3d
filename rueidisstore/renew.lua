-- Lets the keys of an open task live for longer.
-- KEYS: task, log, state, lease, and acts if it has. ARGV: incarnation, TTL (ms). Gives 1, or 0 if the
-- task is over or gone.
local r = redis.call('HMGET', KEYS[1], 'id', 'status')
if r[1] ~= ARGV[1] or r[2] == 'COMPLETED' or r[2] == 'FAILED' or r[2] == 'CANCELLED' then
  return 0
end
for _, key in ipairs(KEYS) do
  redis.call('PEXPIRE', key, ARGV[2])
end
return 1
