-- ARGV: prefix of stage keys, prefix of file keys, then the files that the run names. KEYS[8], KEYS[9]: the list of
-- runs, the run's summary. Returns 'deleted', 'missing' or 'active'. A payload goes with the last run that uses it.
-- (It makes key names from what it reads: fine on one server, not on a Redis cluster.)
local id = redis.call('HGET', RUN, 'id')
if not id then return 'missing' end
if is_active() then return 'active' end
for _, fingerprint in ipairs(redis.call('HVALS', RESULTS)) do
  local payload = ARGV[1] .. fingerprint
  redis.call('SREM', payload .. ':uses', id)
  if redis.call('EXISTS', payload .. ':uses') == 0 then redis.call('DEL', payload) end
end
for index = 3, #ARGV do
  local file = ARGV[2] .. ARGV[index]
  redis.call('SREM', file .. ':uses', id)
  if redis.call('EXISTS', file) == 1 then redis.call('HSET', file, 'needed_at', string.format('%.6f', now())) end
end
redis.call('ZREM', KEYS[8], id)
redis.call('DEL', RUN, UNITS, STAGES, RESULTS, FAILURES, EVENTS, KEYS[9])
return 'deleted'
