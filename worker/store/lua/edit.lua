-- ARGV: what readers are told, then field, value, field, value … Returns 0 where there is no such run.
if redis.call('EXISTS', RUN) == 0 then return 0 end
redis.call('HSET', RUN, unpack(ARGV, 2))
emit('edit', ARGV[1])
return 1
