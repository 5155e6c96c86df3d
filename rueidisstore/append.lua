-- Appends one batch to a task's log: all of it or nothing, once for each token.
-- KEYS: task, log, state, lease, and acts if a suspension is opened.
-- ARGV: 1 incarnation, 2 token, 3 its print of two bytes, 4 number of events,
--   5 batch, 6 events to keep, 7 bytes to keep, 8 '1' if the caller is going to
--   WAIT, 9 fence or ''; and if the record may change: 10 status or
--   '', 11 now (µs), 12 where the terminal event begins in the batch or '',
--   13 StreamTTL (ms), 14 RecordTTL, 15 TTL of the acts after the end, 16 how
--   many suspensions may be open before this batch or '', then for each event
--   that begins the task again or opens or closes a suspension: 'r', restarts;
--   'o', id, index, payload's from and to, when it expires (ms) or 0, allowed
--   actions (JSON), default action (JSON) or ''; 'c', id.
-- Gives the id of the last event, "id:count" for a repeat; 0: unknown task; -1: the task is over;
--   -2: log and state of an open task are gone; -3: the lease was acquired with
--   a higher fence since; -4: the task has acts, declare them; -5: too many
--   suspensions are open.
--
-- The acts, a hash, are described in actions_record.go.
--
-- The state has a fixed size: numbers of eight bytes for the newest id's ms (with
-- a fraction) and ordinal, all bytes ever appended, what was known of the oldest
-- entry when it was last looked at (bytes before it, its ordinal), the fence of
-- the last lease; a byte, 1 if the task is over; the prints of the last 32 tokens.
-- A log's entry has the batch b, and t: the bytes before it, the number of events,
-- the token and its print.
local task, log, state = KEYS[1], KEYS[2], KEYS[3]
if redis.call('HGET', task, 'id') ~= ARGV[1] then
  return 0
end
local function terminal(status)
  return (status == 'COMPLETED' or status == 'FAILED' or status == 'CANCELLED') and 1 or 0
end
local layout, remembered = '<ddddddB', 32
local ms, ord, size, floor, floorord, fence, over, prints
local head = redis.call('GET', state)
if head then
  ms, ord, size, floor, floorord, fence, over, prints = struct.unpack(layout, head)
  prints = string.sub(head, prints)
else
  -- Expired with the log of a task that is over, or evicted.
  over = terminal(redis.call('HGET', task, 'status'))
end

-- A token is looked for in the log, but only if its print is known.
local token = ARGV[2] .. ARGV[3]
if not head or string.find(prints, ARGV[3], 1, true) then
  local to, seen = '+', 0
  repeat
    local page = redis.call('XREVRANGE', log, to, '-', 'COUNT', 8)
    for _, e in ipairs(page) do
      local n, known = string.match(e[2][4], '^%d+:(%d+):(.*)$')
      if known == token then
        if head and ARGV[8] == '1' then
          -- WAIT is for this connection's writes, so let there be one.
          redis.call('SET', state, head, 'KEEPTTL')
        end
        return e[1] .. ':' .. n
      end
      to = '(' .. e[1]
    end
    seen = seen + #page
  until seen >= remembered or #page < 8
end
if over == 1 then
  return -1
end
if not head then
  fence = tonumber(redis.call('HGET', KEYS[4], 'fence') or 0)
end
if ARGV[9] ~= '' and fence > tonumber(ARGV[9]) then
  return -3
end

-- What closes suspensions, or ends a task that had some, is told to declare
-- their hash: a key that may not exist would be refused while its slot moves.
local newstatus, acts = ARGV[10], KEYS[5]
if newstatus then
  if not acts and (ARGV[12] ~= '' or ARGV[17]) and redis.call('HGET', task, 'acts') then
    return -4
  end
  if acts and redis.call('EXISTS', acts) == 0 and ARGV.moving and redis.call('HGET', task, 'acts') then
    return redis.error_reply('TRYAGAIN the acts are on their way, see openslot.lua')
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
  -- The log tells where it ended, and the last tokens.
  local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', remembered)
  if #newest == 0 then
    return -2
  end
  ms, ord = string.match(newest[1][1], '^(%d+)-(%d+)$')
  ms, floor, floorord, prints = tonumber(ms), 0, 0, ''
  size = string.match(newest[1][2][4], '^%d+') + #newest[1][2][2]
  for _, e in ipairs(newest) do
    prints = string.sub(e[2][4], -2) .. prints
  end
  prints = string.rep('\0', 2 * remembered - #prints) .. prints
  recovered = true
end

local batch = ARGV[5]
local t = redis.call('TIME')
ms = math.max(ms, t[1] * 1000 + t[2] / 1000)
local last = ord + ARGV[4]
local id = string.format('%d-%d', ms, last)

-- The bytes before an entry tell those retained from the oldest entry.
local note = string.format('%d:%d:%s', size, ARGV[4], token)
size = size + #batch
prints = string.sub(prints, 3) .. ARGV[3]
if newstatus then
  over = terminal(newstatus)
end
if newstatus and ARGV[12] ~= '' then
  -- A full Redis refuses a script's first write if it takes memory, and allows
  -- all writes of a script that has already written. This write takes no memory.
  -- A task can always end, since finished tasks are what gives memory back.
  redis.call('HDEL', task, '')
end
local function remember()
  redis.call('SET', state, struct.pack(layout, ms, last, size, floor, floorord, fence, over) .. prints, 'KEEPTTL')
end

-- Redis undoes nothing of a script that fails, as for a right that was taken away.
-- The state goes first: an entry without it would get its ordinals a second time.
remember()
local added = redis.pcall('XADD', log, 'NOMKSTREAM', 'MAXLEN', '~', ARGV[6], id, 'b', batch, 't', note)
if not added then
  added = redis.pcall('XADD', log, id, 'b', batch, 't', note)
  recovered = true -- the log was evicted; the ordinals show the hole
end
if added ~= id then
  if head then
    redis.call('SET', state, head, 'KEEPTTL')
  else
    redis.call('UNLINK', state)
  end
  return added
end

-- MAXLEN counts entries. Batches and bytes are looked at when what was known of
-- the oldest entry says that it may be time.
local keep, bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
if size - floor > bytes or last - floorord > 2 * keep then
  local from, oldest, kept, crowded = '-', nil, nil, false
  while not kept do
    for _, e in ipairs(redis.call('XRANGE', log, from, '+', 'COUNT', 8)) do
      local o, c = tonumber(string.match(e[1], '-(%d+)$')), tonumber(string.match(e[2][4], '^%d+'))
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
  remember()
end

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
    elseif ARGV[i] == 'r' then
      redis.call('HSET', task, 'restarts', name)
      changed, i = true, i + 2
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
    redis.call('HDEL', KEYS[4], 'holder', 'until', 'ttl', 'seen', 'seenat', 'saved', 'savedat', 'savedby')
    redis.call('PEXPIRE', KEYS[4], ARGV[13])
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
