-- Counts a task of a subject, if there is room. KEYS: held. ARGV: id, bytes, how
-- many tasks and how many bytes the subject may hold, life of the key (ms).
-- Gives how many tasks are counted, negative if there was no room.
--
-- The field '' has the sum of the bytes. Each other field is a task's id, and has
-- the task's bytes and the time (ms) at which it was counted.
local count = redis.call('HLEN', KEYS[1])
local sum = tonumber(redis.call('HGET', KEYS[1], '') or 0)
local tasks = math.max(count - 1, 0)
if tasks + 1 > tonumber(ARGV[3]) or sum + ARGV[2] > tonumber(ARGV[4]) then
  return -tasks - 1
end
local t = redis.call('TIME')
local ms = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ms, '', string.format('%.0f', sum + ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return tasks + 1
