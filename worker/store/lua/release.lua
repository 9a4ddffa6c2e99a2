-- ARGV: unit, token, '1' if the engine died (then it counts), retries, error that ends the run when they are spent.
local unit = get(UNITS, ARGV[1])
if not unit or unit.state ~= 'leased' or unit.token ~= ARGV[2] then return 0 end
if ARGV[3] == '1' then
  give_back_after_death(planned_unit(ARGV[1]), unit, tonumber(ARGV[4]), 'FAILED', ARGV[5])
else
  give_back(planned_unit(ARGV[1]), unit)
end
return 1
