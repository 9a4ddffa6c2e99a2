-- Forget a file that nothing needs. KEYS: its record, the runs that name it, the list of files, unfinished jobs.
-- ARGV: its hash; the time since when nothing may have needed it; '1' where somebody asks for it, who need not wait
-- for its inspection. Returns 1 when it is forgotten. Its bytes are the caller's to remove.
local needed = redis.call('HGET', KEYS[1], 'needed_at') or redis.call('HGET', KEYS[1], 'created_at')
local job = 'inspect:' .. ARGV[1]
if not needed or redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
if ARGV[3] ~= '1' and (tonumber(needed) > tonumber(ARGV[2]) or redis.call('HEXISTS', KEYS[4], job) == 1) then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('HDEL', KEYS[4], job)
return 1
