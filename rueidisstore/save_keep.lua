local function keep(at)
  redis.call('HSET', KEYS[4], 'saved', given[1], 'savedat', at, 'savedby', (ARGV[9] == '' and '0' or ARGV[9]) .. ':' .. given[2])
  if not l[1] then -- the lease was evicted
    redis.call('PEXPIRE', KEYS[4], math.max(redis.call('PTTL', KEYS[1]), 1))
  end
end
if ARGV[4] == '0' then
  local at, head = nil, redis.call('GET', KEYS[3])
  if head then
    at = string.format('%d-%d', struct.unpack('<dd', head))
  else
    local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
    if #newest == 0 then
      return -2
    end
    at = newest[1][1]
  end
  keep(at)
  return at
end
-- Redis undoes nothing of a script that fails, so what may be refused after the
-- append is tried before it.
if l[1] then
  redis.call('HSET', KEYS[4], 'fence', l[1])
end
local id = append()
if type(id) == 'string' and not string.find(id, ':', 1, true) then
  keep(id)
end
return id
