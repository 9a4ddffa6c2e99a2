-- Returns the run's state afterwards, or '' where there is no such run.
if redis.call('EXISTS', RUN) == 0 then return '' end
finish('CANCELLED')
return redis.call('HGET', RUN, 'state')
