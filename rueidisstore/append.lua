-- Appends one batch to a task's log: all of it or nothing, once for each token.
-- KEYS: task, log, state.
-- ARGV: 1 incarnation, 2 token, 3 number of events, 4 batch, 5 events to keep,
--   6 bytes to keep, 7 '1' if the caller is going to WAIT; and if the record
--   may change: 8 status or '', 9 now (µs), 10 where the terminal event begins
--   in the batch or '', 11 StreamTTL (ms), 12 RecordTTL, then for each event
--   that opens or closes a suspension: 'o', id, index, payload's from and to;
--   'c', id.
-- Gives {ms, first ordinal, count}; 0: unknown task; -1: the task is over;
--   -2: log and state of an open task are gone.
--
-- The state has a field head, "ms-ordinal-size-floor-floorord-turn-status": the
-- newest id, all bytes ever appended, what was known of the oldest entry when
-- it was last looked at (bytes before it, its ordinal), appends so far. And
-- for each of the last 64 to 128 appends t:<token>, "ms-first-count-turn".
local task, log, state = KEYS[1], KEYS[2], KEYS[3]
if redis.call('HGET', task, 'id') ~= ARGV[1] then
  return 0
end
local field = 't:' .. ARGV[2]
local s = redis.call('HMGET', state, 'head', field)
if s[2] then
  if ARGV[7] == '1' then
    -- WAIT waits for this connection's last write, so there must be one.
    redis.call('HINCRBY', state, 'waits', 1)
  end
  local ms, first, n = string.match(s[2], '^(%d+)-(%d+)-(%d+)')
  return {tonumber(ms), tonumber(first), tonumber(n)}
end
local ms, ord, size, floor, floorord, turn, status
local recovered = false
if s[1] then
  ms, ord, size, floor, floorord, turn, status = string.match(s[1], '^(%d+)-(%d+)-(%d+)-(%d+)-(%d+)-(%d+)-(.*)$')
else
  -- Expired with the log of a task that is over, or evicted.
  status = redis.call('HGET', task, 'status')
end
if status == 'COMPLETED' or status == 'FAILED' or status == 'CANCELLED' then
  return -1
end
if not ms then
  -- The log tells where it ended.
  local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  if not newest then
    return -2
  end
  ms, ord = string.match(newest[1], '^(%d+)-(%d+)$')
  size, floor, floorord, turn = newest[2][4] + #newest[2][2], 0, 0, 0
  recovered = true
end

-- Numbers stay below 10^14, which is what `..` prints: they are exact.
local n, batch = tonumber(ARGV[3]), ARGV[4]
local t = redis.call('TIME')
ms = math.max(tonumber(ms), t[1] * 1000 + math.floor(t[2] / 1000))
local first, last = ord + 1, ord + n
local id = ms .. '-' .. last

-- c counts the bytes before this entry, so that the bytes retained can be told
-- from the oldest entry.
if not redis.call('XADD', log, 'NOMKSTREAM', 'MAXLEN', '~', ARGV[5], id, 'b', batch, 'c', size) then
  redis.call('XADD', log, id, 'b', batch, 'c', size)
  recovered = true -- the log was evicted; the ordinals show the hole
end
size = size + #batch
turn = turn + 1
local newstatus = ARGV[8]
if newstatus and newstatus ~= '' then
  status = newstatus
end

-- MAXLEN counts entries. Batches and bytes are looked at when what was known of
-- the oldest entry says that it may be time.
local keep, bytes = tonumber(ARGV[5]), tonumber(ARGV[6])
if size - floor > bytes or last - floorord > 2 * keep then
  local from, oldest, kept, crowded = '-', nil, nil, false
  while not kept do
    for _, e in ipairs(redis.call('XRANGE', log, from, '+', 'COUNT', 8)) do
      local o, c = tonumber(string.match(e[1], '-(%d+)$')), tonumber(e[2][4])
      if not oldest then
        oldest = e[1]
        if size - c > bytes then
          bytes = bytes * 7 / 8 -- so that not every append comes here again
        end
        crowded = last - o > 2 * keep
      end
      if o == last or not (size - c > bytes or crowded and last - o >= keep) then
        kept, floor, floorord = e[1], c, o
        break
      end
      from = '(' .. e[1]
    end
  end
  if kept ~= oldest then
    redis.call('XTRIM', log, 'MINID', kept)
  end
end

redis.call('HSET', state,
  'head', table.concat({ms, last, size, floor, floorord, turn, status}, '-'),
  field, table.concat({ms, first, n, turn}, '-'))
if turn % 64 == 0 then
  local all = redis.call('HGETALL', state)
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 2) == 't:' and tonumber(string.match(all[i + 1], '%d+$')) <= turn - 64 then
      redis.call('HDEL', state, all[i])
    end
  end
end

if newstatus then
  local changed = false
  if newstatus ~= '' and redis.call('HGET', task, 'status') ~= newstatus then
    redis.call('HSET', task, 'status', newstatus)
    changed = true
  end
  local i = 13
  while ARGV[i] do
    local suspension = 's:' .. ARGV[i + 1]
    if ARGV[i] == 'o' then
      local payload = string.sub(batch, ARGV[i + 3] + 1, ARGV[i + 4])
      redis.call('HSET', task, suspension, (ord + ARGV[i + 2]) .. ':' .. payload)
      changed, i = true, i + 5
    else
      changed = redis.call('HDEL', task, suspension) == 1 or changed
      i = i + 2
    end
  end
  if ARGV[10] ~= '' then
    for _, name in ipairs(redis.call('HKEYS', task)) do
      if string.sub(name, 1, 2) == 's:' then
        redis.call('HDEL', task, name)
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
return {ms, first, n}
