-- Appends one batch to a task's log: all of it or nothing, once for each token.
-- KEYS: task, log, state, lease, and acts if a suspension is opened.
-- ARGV: 1 incarnation, 2 token, 3 its print of three characters, 4 number of
--   events, 5 batch, 6 events to keep, 7 bytes to keep, 8 '1' if the caller is
--   going to WAIT, 9 fence or ''; and if the record may change: 10 status or
--   '', 11 now (µs), 12 where the terminal event begins in the batch or '',
--   13 StreamTTL (ms), 14 RecordTTL, 15 TTL of the acts after the end, 16 how
--   many suspensions may be open before this batch or '', then for each event
--   that opens or closes one: 'o', id, index, payload's from and to, when it
--   expires (ms) or 0, allowed actions (JSON), default action (JSON) or '';
--   'c', id.
-- Gives the id of the last event, "id:count" for a repeat; 0: unknown task; -1: the task is over;
--   -2: log and state of an open task are gone; -3: the lease was acquired with
--   a higher fence since; -4: the task has acts, declare them; -5: too many
--   suspensions are open.
--
-- The acts, a hash, are described in actions_record.go.
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

-- What closes suspensions, or ends a task that had some, is told to declare
-- their hash: a key that may not exist would be refused while its slot moves.
local newstatus, acts = ARGV[10], KEYS[5]
if newstatus then
  if not acts and (ARGV[12] ~= '' or ARGV[17]) and redis.call('HGET', task, 'acts') then
    return -4
  end
  if ARGV[16] ~= '' then
    local open = 0
    for _, name in ipairs(redis.call('HKEYS', task)) do
      if string.sub(name, 1, 2) == 's:' then
        open = open + 1
      end
    end
    if open > tonumber(ARGV[16]) then
      return -5
    end
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
  local resolved = acts and tonumber(redis.call('HGET', task, 'acts') or 0)
  local i = 17
  while ARGV[i] do
    local name = ARGV[i + 1]
    if ARGV[i] == 'o' then
      local payload, at = string.sub(batch, ARGV[i + 3] + 1, ARGV[i + 4]), ord + ARGV[i + 2]
      redis.call('HSET', task, 's:' .. name, at .. ':' .. payload, 'acts', resolved)
      redis.call('HDEL', acts, 'd:' .. name, 'y:' .. name)
      redis.call('HSET', acts, 'm:' .. name, 'o:' .. at .. ':' .. ARGV[i + 5] .. ':0:0:', 'p:' .. name, payload, 'a:' .. name, ARGV[i + 6])
      if ARGV[i + 7] ~= '' then
        redis.call('HSET', acts, 'd:' .. name, ARGV[i + 7])
      end
      redis.call('PEXPIRE', acts, math.max(redis.call('PTTL', task), 1))
      changed, i = true, i + 8
    else
      if redis.call('HDEL', task, 's:' .. name) == 1 then
        changed = true
        local m = acts and redis.call('HGET', acts, 'm:' .. name)
        if m then
          resolved = resolved + 1
          redis.call('HSET', task, 'acts', resolved)
          redis.call('HSET', acts, 'm:' .. name, 'c' .. string.match(m, '^.(:%d+:%d+:)') .. '0:' .. resolved .. ':', 'q:' .. resolved, #name .. ':' .. name)
        end
      end
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
    if acts then
      redis.call('HSET', task, 'acts', resolved + 1) -- wakes who waits
      redis.call('PEXPIRE', acts, ARGV[15])
    end
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
