-- A new run, unless a file that it names is not there: nothing can remove one between the look and the use.
-- ARGV: {fields, units, stages, event} as JSON, time of creation, prefix of file keys, then the files that the run
-- names. KEYS[8]: the list of runs. Returns the files that are missing; then nothing was written.
local missing = {}
for index = 4, #ARGV do
  if redis.call('EXISTS', ARGV[3] .. ARGV[index]) == 0 then table.insert(missing, ARGV[index]) end
end
if #missing > 0 or redis.call('EXISTS', RUN) == 1 then return missing end
local new = cjson.decode(ARGV[1])
local id = new.fields.id
for key, fields in pairs({ [RUN] = new.fields, [UNITS] = new.units, [STAGES] = new.stages }) do
  for name, value in pairs(fields) do redis.call('HSET', key, name, value) end
end
for index = 4, #ARGV do redis.call('SADD', ARGV[3] .. ARGV[index] .. ':uses', id) end
redis.call('SADD', ACTIVE, id)
redis.call('ZADD', KEYS[8], ARGV[2], id)
redis.call('XADD', EVENTS, '*', 'kind', 'state', 'data', new.event)
return {}
