-- Comes before a script that makes keys, in a slot that is open for migration:
-- there Redis refuses a script with a declared key that does not exist beside
-- another one. So only those that decide where it runs are declared, and the
-- others are told to it. One of them that is the other node's ends the script
-- with an error; what comes next looks for that before it writes.
-- ARGV: how many, they, then the script's own.
local KEYS, told, ARGV = {unpack(KEYS)}, ARGV, {unpack(ARGV, 2 + ARGV[1])}
for i = 1, told[1] do
  KEYS[#KEYS + 1] = told[1 + i]
end
