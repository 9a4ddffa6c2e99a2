-- ARGV: token, worker, lease in seconds. Returns the id of the claimed unit, or ''.
-- The first waiting unit whose `after` are all done. Asked twice with one token (a lost answer), it answers the same.
if not is_active() then return '' end
local units, done = plan(), {}
for _, planned in ipairs(units) do
  local unit = get(UNITS, planned.id)
  if unit.token == ARGV[1] and unit.state == 'leased' then return planned.id end
  done[planned.id] = unit.state == 'done'
end
for _, planned in ipairs(units) do
  local unit, free = get(UNITS, planned.id), true
  for _, needed in ipairs(planned.after) do free = free and done[needed] end
  if free and unit.state == 'waiting' then
    unit.state, unit.token, unit.worker, unit.expires = 'leased', ARGV[1], ARGV[2], now() + tonumber(ARGV[3])
    put(UNITS, planned.id, unit)
    if redis.call('HGET', RUN, 'state') == 'QUEUED' then
      redis.call('HSET', RUN, 'state', 'RUNNING', 'started_at', string.format('%.3f', now()), 'attempt', 1)
      emit_state('RUNNING')
    end
    return planned.id
  end
end
return ''
