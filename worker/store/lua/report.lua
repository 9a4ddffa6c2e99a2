-- ARGV: unit, token, stage, its StageProgress. Returns 1, or 0 from a holder that has lost its claim.
local unit = get(UNITS, ARGV[1])
if not unit or unit.state ~= 'leased' or unit.token ~= ARGV[2] then return 0 end
if not is_settled(get(STAGES, ARGV[3])) then
  redis.call('HSET', STAGES, ARGV[3], ARGV[4])
  emit('progress', ARGV[4])
end
return 1
