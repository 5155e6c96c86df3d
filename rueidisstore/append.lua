-- Appends one batch to a task's log: all of it or nothing, once for each token.
-- KEYS: task, log, state.
-- ARGV: 1 incarnation, 2 token, 3 number of events, 4 batch, 5 MaxStreamLength,
--   6 MaxStreamBytes, 7 '1' if the caller is going to WAIT; and if the record
--   may change: 8 status or '', 9 now (µs), 10 where the terminal event begins
--   in the batch or '', 11 StreamTTL (ms), 12 RecordTTL, then for each event
--   that opens or closes a suspension: 'o', id, index, payload's from and to;
--   'c', id.
-- Gives {ms, first ordinal, count}; 0: unknown task; -1: the task is over;
--   -2: log and state of an open task are gone.
local task, log, state = KEYS[1], KEYS[2], KEYS[3]
if redis.call('HGET', task, 'id') ~= ARGV[1] then
  return 0
end
local s = redis.call('HMGET', state, 'ms', 'ord', 'st', 'size', 'floor', 'floorord', 'turn', 't:' .. ARGV[2])
if s[8] then
  if ARGV[7] == '1' then
    -- WAIT waits for this connection's last write, so there must be one.
    redis.call('HSET', state, 'waited', s[1])
  end
  local ms, first, n = string.match(s[8], '^(%d+)-(%d+)-(%d+)$')
  return {tonumber(ms), tonumber(first), tonumber(n)}
end
local recovered = false
if not s[2] then
  -- The state has expired with the log of a task that is over, or Redis evicted
  -- it: the log tells where it ended.
  s[3] = redis.call('HGET', task, 'status')
end
local status = s[3]
if status == 'COMPLETED' or status == 'FAILED' or status == 'CANCELLED' then
  return -1
end
if not s[2] then
  local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  if not newest then
    return -2
  end
  s[1], s[2] = string.match(newest[1], '^(%d+)-(%d+)$')
  s[4] = newest[2][4] + #newest[2][2]
  recovered = true
end

-- Numbers stay below 2^53, and `..` prints 14 digits: ids are exact.
local n, batch = tonumber(ARGV[3]), ARGV[4]
local ord, size = tonumber(s[2]), tonumber(s[4] or 0)
local t = redis.call('TIME')
local ms = math.max(tonumber(s[1]), t[1] * 1000 + math.floor(t[2] / 1000))
local last = ord + n
local id = string.format('%.0f-%.0f', ms, last)

-- c counts the bytes before this entry, so that the bytes retained can be told
-- from the oldest entry.
if not redis.call('XADD', log, 'NOMKSTREAM', 'MAXLEN', '~', ARGV[5], id, 'b', batch, 'c', size) then
  redis.call('XADD', log, id, 'b', batch, 'c', size)
  recovered = true -- the log was evicted; the ordinals show the hole
end
size = size + #batch
local turn = ((tonumber(s[7]) or 0) + 1) % 64
local forgotten = redis.call('HGET', state, 'q:' .. turn)
if forgotten and forgotten ~= ARGV[2] then
  redis.call('HDEL', state, 't:' .. forgotten)
end
local now = ARGV[8]
if now and now ~= '' then
  status = now
end
redis.call('HSET', state, 'ms', ms, 'ord', last, 'st', status, 'size', size, 'turn', turn,
  'q:' .. turn, ARGV[2], 't:' .. ARGV[2], string.format('%.0f-%.0f-%d', ms, ord + 1, n))

if now then
  local changed = false
  if now ~= '' and redis.call('HGET', task, 'status') ~= now then
    redis.call('HSET', task, 'status', now)
    changed = true
  end
  local i = 13
  while ARGV[i] do
    local field = 's:' .. ARGV[i + 1]
    if ARGV[i] == 'o' then
      local at = string.format('%.0f', ord + ARGV[i + 2])
      redis.call('HSET', task, field, at .. ':' .. string.sub(batch, ARGV[i + 3] + 1, ARGV[i + 4]))
      changed, i = true, i + 5
    else
      changed = redis.call('HDEL', task, field) == 1 or changed
      i = i + 2
    end
  end
  if ARGV[10] ~= '' then
    for _, field in ipairs(redis.call('HKEYS', task)) do
      if string.sub(field, 1, 2) == 's:' then
        redis.call('HDEL', task, field)
      end
    end
    -- The terminal event stays with the record, as a batch of its own.
    redis.call('HSET', task, 'end', '\1\1' .. string.sub(batch, ARGV[10] + 1), 'endid', id)
    redis.call('PEXPIRE', task, ARGV[11] + ARGV[12])
    redis.call('PEXPIRE', log, ARGV[11])
    redis.call('PEXPIRE', state, ARGV[11])
    recovered, changed = false, true
  end
  if changed and tonumber(ARGV[9]) > tonumber(redis.call('HGET', task, 'updated')) then
    redis.call('HSET', task, 'updated', ARGV[9])
  end
end
if recovered then
  local ttl = math.max(redis.call('PTTL', task), 1)
  redis.call('PEXPIRE', log, ttl)
  redis.call('PEXPIRE', state, ttl)
end

-- MAXLEN counts entries. Batches and bytes are looked at when what was known of
-- the oldest entry says that it may be time.
local maxlen, maxbytes = tonumber(ARGV[5]), tonumber(ARGV[6])
local floor, floorord = tonumber(s[5]) or 0, tonumber(s[6]) or 0
if size - floor > maxbytes or last - floorord > 2 * maxlen then
  local from, keep, first = '-', nil, nil
  local crowded = false
  while not keep do
    for _, e in ipairs(redis.call('XRANGE', log, from, '+', 'COUNT', 8)) do
      local o, c = tonumber(string.match(e[1], '-(%d+)$')), tonumber(e[2][4])
      if not first then
        first = e[1]
        -- With some slack, so that not every append comes here again.
        if size - c > maxbytes then
          maxbytes = maxbytes * 7 / 8
        end
        crowded = last - o > 2 * maxlen
      end
      if o == last or not (size - c > maxbytes or crowded and last - o >= maxlen) then
        keep, floor, floorord = e[1], c, o
        break
      end
      from = '(' .. e[1]
    end
  end
  if keep ~= first then
    redis.call('XTRIM', log, 'MINID', keep)
  end
  redis.call('HSET', state, 'floor', floor, 'floorord', floorord)
end
return {ms, ord + 1, n}
