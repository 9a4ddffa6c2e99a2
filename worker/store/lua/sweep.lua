-- ARGV: '1' if leases may run out, retries, error that ends the run when they are spent.
-- Returns how many claims ran out, how many are held, and how many units could be claimed now.
if not is_active() then return {0, 0, 0} end
local expired, held, free = 0, 0, 0
local units, done = plan(), {}
for _, planned in ipairs(units) do
  local unit = get(UNITS, planned.id)
  if unit.state == 'leased' and unit.expires < now() and ARGV[1] == '1' then
    expired = expired + 1
    give_back_after_death(planned, unit, tonumber(ARGV[2]), 'LOST', ARGV[3])
    if not is_active() then return {expired, 0, 0} end
  end
  unit = get(UNITS, planned.id)
  done[planned.id] = unit.state == 'done'
  if unit.state == 'leased' then held = held + 1 end
end
for _, planned in ipairs(units) do
  local ready = get(UNITS, planned.id).state == 'waiting'
  for _, needed in ipairs(planned.after) do ready = ready and done[needed] end
  if ready then free = free + 1 end
end
return {expired, held, free}
