-- Keeps a revocation. KEYS: revocations, their times. ARGV: id, text, when it
-- lapses (ms), how many may be in force, then id and text of those that it makes
-- needless. Gives 1, or 0 if there are too many.
--
-- The field '' of the hash is a version, which whoever watches looks at. What
-- has lapsed stays for a minute, for the clocks of nodes that are behind.
if redis.call('EXISTS', KEYS[2]) == 0 and ARGV.moving and redis.call('HLEN', KEYS[1]) > 1 then
  return redis.error_reply('TRYAGAIN the times are on their way, see openslot.lua')
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local margin = 60000
local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - margin, 'LIMIT', 0, 1000)
if #gone > 0 then
  redis.call('HDEL', KEYS[1], unpack(gone))
  redis.call('ZREM', KEYS[2], unpack(gone))
end
-- Times are whole ms, rounded down: what lapses within this one may be over, and
-- does not count.
local after = string.format('(%.0f', now)
-- Only those that are still as the caller knows them are needless.
local needless, counted = {}, 0
for i = 5, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    needless[#needless + 1] = ARGV[i]
    if tonumber(redis.call('ZSCORE', KEYS[2], ARGV[i]) or 0) > now then
      counted = counted + 1
    end
  end
end
local others = redis.call('ZCOUNT', KEYS[2], after, '+inf') - counted
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and others >= tonumber(ARGV[4]) then
  return 0
end
-- A full Redis refuses these writes, unless the script has written before; see append.lua.
redis.call('ZREM', KEYS[2], '', unpack(needless))
if #needless > 0 then
  redis.call('HDEL', KEYS[1], unpack(needless))
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], '', t[1] .. '.' .. t[2])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')
local ttl = math.max(last[2] - now, 0) + 2 * margin
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ttl))
redis.call('PEXPIRE', KEYS[2], string.format('%.0f', ttl))
return 1
