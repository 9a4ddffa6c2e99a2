-- ARGV: unit, token, lease in seconds. Returns 'HELD', or why the claim is over: a terminal state, 'TAKEN' or 'GONE'.
local unit = get(UNITS, ARGV[1])
if not unit then return 'GONE' end
if not is_active() then return redis.call('HGET', RUN, 'state') end
if unit.state ~= 'leased' or unit.token ~= ARGV[2] then return 'TAKEN' end
unit.expires = now() + tonumber(ARGV[3])
put(UNITS, ARGV[1], unit)
return 'HELD'
