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

-- Those that were resolved first are forgotten, unless nobody has the answer yet:
-- those are passed over, and looked at again with every answer.
local function forget(number)
  local q = redis.call('HGET', acts, 'q:' .. number)
  if q then
    local length, rest = string.match(q, '^(%d+):(.*)$')
    local gone, receipt = string.sub(rest, 1, length), 'r:' .. string.sub(rest, length + 1)
    local state, newest = string.match(redis.call('HGET', acts, 'm:' .. gone) or '', '^(.):%d+:%d+:%d+:(%d+):')
    if tonumber(newest) == number then
      if state == 'a' then
        return false
      end
      redis.call('HDEL', acts, 'm:' .. gone, 'p:' .. gone, 'a:' .. gone, 'd:' .. gone, 'y:' .. gone, 'w:' .. gone)
    end
    if string.match(redis.call('HGET', acts, receipt) or '', '^(%d+):') == tostring(number) then
      redis.call('HDEL', acts, receipt)
    end
    redis.call('HDEL', acts, 'q:' .. number)
  end
  return true
end
local passed = redis.call('HMGET', acts, 'oldest', 'passed')
local oldest, still, left = tonumber(passed[1] or 1), passed[2] or '', {}
for number in string.gmatch(still, '%d+') do
  if not forget(tonumber(number)) then
    left[#left + 1] = number
  end
end
while oldest <= n - given[10] do
  if not forget(oldest) then
    left[#left + 1] = tostring(oldest)
  end
  oldest = oldest + 1
  redis.call('HSET', acts, 'oldest', oldest)
end
left = table.concat(left, ' ')
if left ~= still then
  redis.call('HSET', acts, 'passed', left)
end
return id
