-- Appends a batch that concerns the log alone, in the usual case: state there,
-- task open, token new, nothing to trim. Gives the id of the last event, or 0:
-- nothing was done, append.lua has to look. A lone append is half as long with
-- this script, so what is here is what it cannot do without; see ADR 8.
-- KEYS: log, state. ARGV: 1 batch, 2 token and its print, 3 number of events,
-- 4 fence, 0 for none. The store sets keep (entries) and most (bytes) before.
local head = redis.call('GET', KEYS[2])
if not head then
  return 0
end
local ms, ord, size, floor, floorord, fence, over, prints = struct.unpack('<ddddddB', head)
local batch, print, n, mine = ARGV[1], string.sub(ARGV[2], -2), tonumber(ARGV[3]), tonumber(ARGV[4])
local last, after = ord + n, size + #batch
if over == 1 or string.find(head, print, prints, true) or mine > 0 and mine < fence
  or after - floor > most or last - floorord > 2 * keep then
  return 0
end
local t = redis.call('TIME')
local now = t[1] * 1000 + t[2] / 1000
if now > ms then
  ms = now
end
local id = string.format('%d-%d', ms, last)
local note = string.format('%d:%d:%s', size, n, ARGV[2])
redis.call('SET', KEYS[2], struct.pack('<ddddddB', ms, last, after, floor, floorord, fence, over)
  .. string.sub(head, -62) .. print, 'KEEPTTL')
local added
if last % 64 < n then
  added = redis.pcall('XADD', KEYS[1], 'NOMKSTREAM', 'MAXLEN', '~', keep, id, 'b', batch, 't', note)
else
  added = redis.pcall('XADD', KEYS[1], 'NOMKSTREAM', id, 'b', batch, 't', note)
end
if added ~= id then -- it is not there, or an error
  redis.call('SET', KEYS[2], head, 'KEEPTTL')
  return added or 0
end
return id
