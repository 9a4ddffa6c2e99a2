-- The compare-and-set that ends a stage, its unit with its last stage, and the run with its last unit.
-- KEYS[8], KEYS[9]: the payload and its uses. ARGV: unit, token, stage, its StageProgress, fingerprint or '',
-- payload or '' (then it must be stored already), StageFailure or '', error or '',
-- weight of the failure: '' the run goes on and may be DONE, 'essential' it ends FAILED, 'run' it ends FAILED now.
-- Returns 'settled', 'stale' (the claim is lost) or 'absent' (no such payload is stored).
local unit = get(UNITS, ARGV[1])
if not unit or unit.token ~= ARGV[2] then return 'stale' end
if is_settled(get(STAGES, ARGV[3])) then return 'settled' end -- said before, but the answer was lost
if not is_active() then return 'stale' end
if ARGV[5] ~= '' then
  if ARGV[6] ~= '' then
    redis.call('SET', KEYS[8], ARGV[6], 'NX')
  elseif redis.call('EXISTS', KEYS[8]) == 0 then
    return 'absent'
  end
  redis.call('SADD', KEYS[9], redis.call('HGET', RUN, 'id'))
  redis.call('HSET', RESULTS, ARGV[3], ARGV[5])
end
redis.call('HSET', STAGES, ARGV[3], ARGV[4])
if ARGV[7] ~= '' then redis.call('HSET', FAILURES, ARGV[3], ARGV[7]) end
emit('stage', ARGV[4])
if ARGV[9] == 'run' then
  finish('FAILED', ARGV[8])
  return 'settled'
end
if ARGV[9] == 'essential' then redis.call('HSETNX', RUN, 'essential_error', ARGV[8]) end

for _, name in ipairs(planned_unit(ARGV[1]).stages) do
  if not is_settled(get(STAGES, name)) then return 'settled' end
end
unit.state = 'done'
put(UNITS, ARGV[1], unit)
for _, planned in ipairs(plan()) do
  if get(UNITS, planned.id).state ~= 'done' then return 'settled' end
end
local err = redis.call('HGET', RUN, 'essential_error')
finish(err and 'FAILED' or 'DONE', err or nil)
return 'settled'
