-- Takes the tasks whose suspensions are to be looked at: others get them only
-- after a while. KEYS: index. ARGV: how many at most, that while (ms), the member
-- that a whole index has.
-- Gives 1 if the index is whole, else 0; then the score that marks them as taken
-- and their ids, if there are any.
local whole = redis.call('ZSCORE', KEYS[1], ARGV[3]) and 1 or 0
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
if #ids == 0 then
  return {whole}
end
local mark = string.format('%.0f', now + ARGV[2])
for _, id in ipairs(ids) do
  redis.call('ZADD', KEYS[1], 'XX', mark, id)
end
return {whole, mark, ids}
