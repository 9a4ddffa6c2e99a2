-- Something needs these files now. KEYS: their records. Returns the places (from 1) of those that are not there.
local time = redis.call('TIME')
local missing = {}
for place, key in ipairs(KEYS) do
  if redis.call('EXISTS', key) == 0 then
    table.insert(missing, place)
  else
    redis.call('HSET', key, 'needed_at', string.format('%s.%06d', time[1], tonumber(time[2])))
  end
end
return missing
