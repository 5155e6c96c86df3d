-- Finds what is due of a task's suspensions, and takes it: it is found again only
-- after a while. KEYS: task, acts.
-- ARGV: incarnation, how many at most, for how long to take what has expired
-- (ms), and at least what was not handed over, when to look again if nothing is
-- known.
-- Gives when to look again (ms from now), -1: never, -2: the record knows of
-- suspensions that the acts do not; then for each its id, state, payload, answer,
-- default, and for how long (ms) its answer has been offered in vain while nobody
-- held the task; a pause in which nobody asked counts as a minute at most.
local r = redis.call('HMGET', KEYS[1], 'id', 'status')
if r[1] ~= ARGV[1] or r[2] == 'COMPLETED' or r[2] == 'FAILED' or r[2] == 'CANCELLED' then
  return {-1}
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local soonest, known, due = math.huge, {}, {}
for _, name in ipairs(redis.call('HKEYS', KEYS[2])) do
  if string.sub(name, 1, 2) == 'm:' then
    local m = redis.call('HGET', KEYS[2], name)
    local state, when, again = string.match(m, '^(.):%d+:(%d+):(%d+):')
    known[string.sub(name, 3)] = true
    if state == 'o' and when ~= '0' or state == 'a' then
      local take = tonumber(ARGV[3])
      if state == 'a' then -- after longer and longer pauses
        take = math.max(ARGV[4], math.min(now - when, 30000))
      end
      -- A claim that is longer than any is from before the clock went back.
      local at = tonumber(again) > now + take and now or tonumber(again)
      if state == 'o' then
        at = math.max(at, when)
      end
      if at <= now then
        due[#due + 1] = {string.sub(name, 3), m, at, take}
      else
        soonest = math.min(soonest, at)
      end
    end
  end
end
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(name, 1, 2) == 's:' and not known[string.sub(name, 3)] then
    return {-2}
  end
end
table.sort(due, function(a, b) return a[3] < b[3] end)
local found, held = {0}, #due > 0 and redis.call('HGET', KEYS[3], 'holder')
for n, d in ipairs(due) do
  if n > tonumber(ARGV[2]) then
    soonest = now
    break
  end
  local id, m, again = d[1], d[2], now + d[4]
  local before, after = string.match(m, '^(.:%d+:%d+:)%d+(:.*)$')
  redis.call('HSET', KEYS[2], 'm:' .. id, before .. string.format('%.0f', again) .. after)
  soonest = math.min(soonest, again)
  found[#found + 1] = id
  found[#found + 1] = m
  local fields, waited = redis.call('HMGET', KEYS[2], 'p:' .. id, 'y:' .. id, 'd:' .. id, 'w:' .. id), 0
  if string.sub(m, 1, 1) == 'a' and (held or '') == '' then
    local ordinal = string.match(m, '^.:(%d+):')
    local of, sum, last = string.match(fields[4] or '', '^(%d+):(%d+):(%d+)$')
    if of == ordinal then
      waited = sum + math.max(math.min(now - last, 60000), 0)
    end
    redis.call('HSET', KEYS[2], 'w:' .. id, string.format('%s:%.0f:%.0f', ordinal, waited, now))
  elseif fields[4] then
    redis.call('HDEL', KEYS[2], 'w:' .. id)
  end
  for i = 1, 3 do
    found[#found + 1] = fields[i] or ''
  end
  found[#found + 1] = waited
end
found[1] = soonest == math.huge and tonumber(ARGV[5]) or soonest - now
return found
