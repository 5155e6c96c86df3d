-- Puts a task into the due index, unless it is there.
-- KEYS: due. ARGV: task id, delay (ms), TTL of the index (ms).
local t = redis.call('TIME')
redis.call('ZADD', KEYS[1], 'NX', t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[2], ARGV[1])
return redis.call('PEXPIRE', KEYS[1], ARGV[3])
