-- Gives this server's time (ms) and the ids of the tasks that are due.
-- KEYS: due. ARGV: how many at most.
local t = redis.call('TIME')
local ms = t[1] * 1000 + math.floor(t[2] / 1000)
return {ms, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ms, 'LIMIT', 0, ARGV[1])}
