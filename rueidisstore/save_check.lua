-- Saves a checkpoint of a task, with the events that go with it, all of it or
-- nothing: save_check.lua, then append.lua as a function, then save_keep.lua.
-- KEYS: those of append.lua. ARGV: 1 checkpoint, 2 its number, then those of
--   append.lua; without events their number is 0.
-- Gives what append.lua gives; without events the id of the newest event.
--
-- The checkpoint is in the lease, which is there from the task's creation on:
-- saved, savedat (the id of the newest event then), savedby (fence, ':', number).
local given, ARGV = ARGV, {unpack(ARGV, 3)}
ARGV.moving = given.moving
local r = redis.call('HMGET', KEYS[1], 'id', 'status')
if r[1] ~= ARGV[1] then
  return 0
end
local l = redis.call('HMGET', KEYS[4], 'fence', 'savedat', 'savedby')
if ARGV[4] == '0' then
  if r[2] == 'COMPLETED' or r[2] == 'FAILED' or r[2] == 'CANCELLED' then
    return -1
  end
  if ARGV[9] ~= '' then
    if tonumber(l[1] or 0) > tonumber(ARGV[9]) then
      return -3
    end
    local fence, number = string.match(l[3] or '', '^(%d+):(%d+)$')
    if fence == ARGV[9] and tonumber(number) >= tonumber(given[2]) then
      return l[2] -- this one is late
    end
  end
end
