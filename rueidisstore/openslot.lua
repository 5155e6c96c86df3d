-- Comes before a script that makes keys, in a slot that is open for migration:
-- there Redis refuses a script with a declared key that does not exist beside
-- another one. So only those that decide where it runs are declared, and the
-- others are told to it. On the node that gives the slot away, one of them that
-- is not there ends the script with an error. On the one that takes the slot it
-- may be made, and may also be on its way here: what comes next, told by
-- ARGV.moving, makes none of which the declared keys say that there is one. It
-- looks for both before it writes.
-- ARGV: how many, they, then the script's own.
local KEYS, told, ARGV = {unpack(KEYS)}, ARGV, {unpack(ARGV, 2 + ARGV[1])}
ARGV.moving = true
for i = 1, told[1] do
  KEYS[#KEYS + 1] = told[1 + i]
end
