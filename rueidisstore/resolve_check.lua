-- Resolves a suspension, or tells why not: resolve_check.lua, then append.lua as
-- a function, then resolve_keep.lua.
-- KEYS: task, log, state, lease, acts.
-- ARGV: 1 incarnation, 2 suspension, 3 '1' for an expiry, 4 '=' and the type of the
--   action or '' if there is none, 5 its id, 6 its fingerprint, 7 '1' if it does not fit,
--   8 the answer to keep, 9 when to hand it over if nobody has (ms from now),
--   10 how many that were resolved to keep, 11 '1' if the caller is going to
--   WAIT, then those of append.lua.
-- Gives the id of the event if it was accepted; otherwise an engine.Verdict; or
--   -10: unknown task; -11: the acts lack what the record has; or what
--   append.lua gives below 0.
local given, ARGV = ARGV, {unpack(ARGV, 12)}
local task, acts, name, caid = KEYS[1], KEYS[5], given[2], given[5]
local r = redis.call('HMGET', task, 'id', 'status', 's:' .. name, 'acts')
if r[1] ~= given[1] then
  return -10
end
local m = redis.call('HGET', acts, 'm:' .. name)
if not m then
  if r[4] and (r[2] == 'COMPLETED' or r[2] == 'FAILED' or r[2] == 'CANCELLED') and redis.call('EXISTS', acts) == 0 then
    return 4 -- what the task had is gone before its record
  end
  return r[3] and -11 or 0
end
if given[4] ~= '' then
  local allowed = false
  for _, action in ipairs(cjson.decode(redis.call('HGET', acts, 'a:' .. name))) do
    allowed = allowed or '=' .. action == given[4]
  end
  if not allowed then
    return 1
  end
end
local receipt = caid ~= '' and redis.call('HGET', acts, 'r:' .. caid)
if receipt then
  if string.match(receipt, '^%d+:(.*)$') ~= given[6] then
    return 3
  end
  if given[11] == '1' then
    -- WAIT is for this connection's writes, so let there be one.
    redis.call('HSET', acts, 'r:' .. caid, receipt)
  end
  return 2
end
local state, ordinal, expires, by = string.match(m, '^(.):(%d+):(%d+):%d+:%d+:(.*)$')
if r[2] == 'COMPLETED' or r[2] == 'FAILED' or r[2] == 'CANCELLED' then
  return 4
end
if state ~= 'o' then
  return by == 'x' and 5 or 4
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if (expires ~= '0' and now >= tonumber(expires)) ~= (given[3] == '1') then
  return 5
end
if given[7] == '1' then
  return 6
end
