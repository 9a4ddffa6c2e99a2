-- Inspections, baseline checks and fetches: one small job each. KEYS[1]: the hash of unfinished jobs.
-- ARGV: verb, job, token, lease in seconds. Returns 1 when it is done, 0 when it is not ours to do.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local raw = redis.call('HGET', KEYS[1], ARGV[2])
local job = raw and cjson.decode(raw) or nil
local verb = ARGV[1]
if verb == 'add' then
  if job then return 0 end
  job = { token = '', expires = 0, attempts = 0 }
elseif not job then
  return 0
elseif verb == 'drop' then
  redis.call('HDEL', KEYS[1], ARGV[2])
  return 1
elseif verb == 'claim' then
  if job.token ~= '' and job.token ~= ARGV[3] and job.expires > now then return 0 end
  job.token, job.expires = ARGV[3], now + tonumber(ARGV[4])
elseif verb == 'expire' then
  if job.token == '' or job.expires > now then return 0 end
  job.token, job.expires, job.attempts = '', 0, job.attempts + 1
elseif job.token ~= ARGV[3] then
  return 0
elseif verb == 'renew' then
  job.expires = now + tonumber(ARGV[4])
elseif verb == 'release' then
  job.token, job.expires = '', 0
elseif verb == 'crash' then
  job.token, job.expires, job.attempts = '', 0, job.attempts + 1
elseif verb == 'finish' then -- by its holder
  redis.call('HDEL', KEYS[1], ARGV[2])
  return 1
end
redis.call('HSET', KEYS[1], ARGV[2], cjson.encode(job))
return 1
