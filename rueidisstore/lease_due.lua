-- Takes the tasks whose leases are to be looked at: others get them only after
-- a while. KEYS: index. ARGV: how many at most, that while (ms).
-- Gives the score that marks them as taken, and their ids; or nothing.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
if #ids == 0 then
  return ids
end
-- A full Redis refuses these writes, unless the script has written before; see append.lua.
redis.call('ZREM', KEYS[1], '')
local mark = string.format('%.0f', now + ARGV[2])
for _, id in ipairs(ids) do
  redis.call('ZADD', KEYS[1], 'XX', mark, id)
end
return {mark, ids}
