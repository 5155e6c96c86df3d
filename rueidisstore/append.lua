-- Appends one batch to a task's log: all of it or nothing, once for each token.
-- KEYS: task, log, state, lease.
-- ARGV: 1 incarnation, 2 token, 3 its print of three characters, 4 number of
--   events, 5 batch, 6 events to keep, 7 bytes to keep, 8 '1' if the caller is
--   going to WAIT, 9 fence or ''; and if the record may change: 10 status or
--   '', 11 now (µs), 12 where the terminal event begins in the batch or '',
--   13 StreamTTL (ms), 14 RecordTTL, then for each event that opens or closes
--   a suspension: 'o', id, index, payload's from and to; 'c', id.
-- Gives the id of the last event, "id:count" for a repeat; 0: unknown task; -1: the task is over;
--   -2: log and state of an open task are gone; -3: the lease was acquired with
--   a higher fence since.
--
-- The state is "ms-ordinal-size-floor-floorord-status-prints": the newest id,
-- all bytes ever appended, what was known of the oldest entry when it was last
-- looked at (bytes before it, its ordinal), and the prints of the last 64
-- tokens, "???" for those that were lost. A log's entry has the batch b, the
-- bytes before it c, and t, the number of events and the token.
local task, log, state = KEYS[1], KEYS[2], KEYS[3]
if redis.call('HGET', task, 'id') ~= ARGV[1] then
  return 0
end
local ms, ord, size, floor, floorord, status, prints
local head = redis.call('GET', state)
if head then
  ms, ord, size, floor, floorord, status, prints = string.match(head, '^(%d+)-(%d+)-(%d+)-(%d+)-(%d+)-([^-]*)-(.*)$')
else
  -- Expired with the log of a task that is over, or evicted.
  status = redis.call('HGET', task, 'status')
end

-- A token is looked for in the log, but only if its print is known.
local at = not head and 1 or string.find(prints, '?', 1, true) or string.find(prints, ARGV[3], 1, true)
while at and at % 3 ~= 1 do
  at = string.find(prints, ARGV[3], at + 1, true)
end
if at then
  local to, seen = '+', 0
  repeat
    local page = redis.call('XREVRANGE', log, to, '-', 'COUNT', 8)
    for _, e in ipairs(page) do
      local n, token = string.match(e[2][6], '^(%d+):(.*)$')
      if token == ARGV[2] then
        if head and ARGV[8] == '1' then
          -- WAIT is for this connection's writes, so let there be one.
          redis.call('SET', state, head, 'KEEPTTL')
        end
        return e[1] .. ':' .. n
      end
      to = '(' .. e[1]
    end
    seen = seen + #page
  until seen >= 64 or #page < 8
end
if status == 'COMPLETED' or status == 'FAILED' or status == 'CANCELLED' then
  return -1
end
if ARGV[9] ~= '' then
  local fence = redis.call('HGET', KEYS[4], 'fence')
  if fence and tonumber(fence) > tonumber(ARGV[9]) then
    return -3
  end
end

local recovered = false
if not head then
  -- The log tells where it ended.
  local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  if not newest then
    return -2
  end
  ms, ord = string.match(newest[1], '^(%d+)-(%d+)$')
  size, floor, floorord, prints = newest[2][4] + #newest[2][2], 0, 0, '???'
  recovered = true
end

-- Turning numbers into text takes longer than anything else here: it is done
-- once for each. Below 10^14 `..` is exact.
local batch = ARGV[5]
local t = redis.call('TIME')
local now = t[1] .. string.sub('00000' .. t[2], -6, -4)
if tonumber(now) > tonumber(ms) then
  ms = now
end
local last = ord + ARGV[4]
local id = ms .. '-' .. last

-- c counts the bytes before this entry, so that the bytes retained can be told
-- from the oldest entry.
local token = ARGV[4] .. ':' .. ARGV[2]
if not redis.call('XADD', log, 'NOMKSTREAM', 'MAXLEN', '~', ARGV[6], id, 'b', batch, 'c', size, 't', token) then
  redis.call('XADD', log, id, 'b', batch, 'c', size, 't', token)
  recovered = true -- the log was evicted; the ordinals show the hole
end
size = size + #batch
prints = string.sub(prints, -189) .. ARGV[3]
local newstatus = ARGV[10]
if newstatus and newstatus ~= '' then
  status = newstatus
end

-- MAXLEN counts entries. Batches and bytes are looked at when what was known of
-- the oldest entry says that it may be time.
local keep, bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
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

redis.call('SET', state, table.concat({id, size, floor, floorord, status, prints}, '-'), 'KEEPTTL')

if newstatus then
  local changed = false
  if newstatus ~= '' and redis.call('HGET', task, 'status') ~= newstatus then
    redis.call('HSET', task, 'status', newstatus)
    changed = true
  end
  local i = 15
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
  if ARGV[12] ~= '' then
    for _, name in ipairs(redis.call('HKEYS', task)) do
      if string.sub(name, 1, 2) == 's:' then
        redis.call('HDEL', task, name)
      end
    end
    -- The terminal event stays with the record, as a batch of its own.
    redis.call('HSET', task, 'end', '\1\1' .. string.sub(batch, ARGV[12] + 1), 'endid', id)
    redis.call('PEXPIRE', task, ARGV[13] + ARGV[14])
    redis.call('PEXPIRE', log, ARGV[13])
    redis.call('PEXPIRE', state, ARGV[13])
    redis.call('DEL', KEYS[4])
    recovered, changed = false, true
  end
  if changed and tonumber(ARGV[11]) > tonumber(redis.call('HGET', task, 'updated')) then
    redis.call('HSET', task, 'updated', ARGV[11])
  end
end
if recovered then
  local ttl = math.max(redis.call('PTTL', task), 1)
  redis.call('PEXPIRE', log, ttl)
  redis.call('PEXPIRE', state, ttl)
end
return id
