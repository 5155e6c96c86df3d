local id = append()
if id == -1 then
  return 4
end
if type(id) ~= 'string' then
  return id
end
-- The append has closed the suspension and counted it.
local n = tonumber(redis.call('HGET', task, 'acts'))
local now, again = string.format('%.0f', now), 0 -- once it is resolved, when is now
state, by = 'x', given[3] == '1' and 'x' or ''
if given[4] ~= '' then
  state, again = 'a', string.format('%.0f', now + given[9])
  redis.call('HSET', acts, 'y:' .. name, given[8])
  redis.call('HSET', task, 'resumed', now)
end
redis.call('HSET', acts, 'm:' .. name, table.concat({state, ordinal, now, again, n, by}, ':'), 'q:' .. n, #name .. ':' .. name .. caid)
if caid ~= '' then
  redis.call('HSET', acts, 'r:' .. caid, n .. ':' .. given[6])
end

-- Those that were resolved first are forgotten, unless nobody has the answer yet.
local oldest = tonumber(redis.call('HGET', acts, 'oldest') or 1)
while oldest <= n - given[10] do
  local q = redis.call('HGET', acts, 'q:' .. oldest)
  if q then
    local length, rest = string.match(q, '^(%d+):(.*)$')
    local gone, receipt = string.sub(rest, 1, length), 'r:' .. string.sub(rest, length + 1)
    local state, number = string.match(redis.call('HGET', acts, 'm:' .. gone) or '', '^(.):%d+:%d+:%d+:(%d+):')
    local mine = tonumber(number) == oldest
    if not (mine and state == 'a') then
      if mine then
        redis.call('HDEL', acts, 'm:' .. gone, 'p:' .. gone, 'a:' .. gone, 'd:' .. gone, 'y:' .. gone)
      end
      if string.match(redis.call('HGET', acts, receipt) or '', '^(%d+):') == tostring(oldest) then
        redis.call('HDEL', acts, receipt)
      end
      redis.call('HDEL', acts, 'q:' .. oldest)
    end
  end
  oldest = oldest + 1
  redis.call('HSET', acts, 'oldest', oldest)
end
return id
