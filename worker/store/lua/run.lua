-- What every script on a run begins with. KEYS[1..7] are keys.run_keys(id).
-- A script runs alone on the server: what it checks still holds when it writes. The server's clock is the only one.
local RUN, UNITS, STAGES, RESULTS, FAILURES, EVENTS, ACTIVE = unpack(KEYS, 1, 7)
local EVENTS_KEPT = 2000

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end

local function is_active()
  local state = redis.call('HGET', RUN, 'state')
  return state == 'QUEUED' or state == 'RUNNING'
end

local function emit(kind, data)
  redis.call('XADD', EVENTS, 'MAXLEN', '~', EVENTS_KEPT, '*', 'kind', kind, 'data', data)
  redis.call('HINCRBY', RUN, 'version', 1)
end

local function emit_state(state, err)
  emit('state', '{"state":"' .. state .. '","error":' .. (err or 'null') .. '}')
end

local function plan()
  return cjson.decode(redis.call('HGET', RUN, 'plan'))
end

local function get(key, field)
  local raw = redis.call('HGET', key, field)
  return raw and cjson.decode(raw) or nil
end

local function put(key, field, value)
  redis.call('HSET', key, field, cjson.encode(value))
end

local function is_settled(stage)
  return stage.state == 'done' or stage.state == 'failed' or stage.state == 'skipped'
end

-- The one door to a terminal state: it opens once.
local function finish(state, err)
  if not is_active() then return end
  for _, planned in ipairs(plan()) do
    local unit = get(UNITS, planned.id)
    if unit.state ~= 'done' then
      unit.state, unit.token = 'ended', ''
      put(UNITS, planned.id, unit)
    end
    for _, name in ipairs(planned.stages) do
      local stage = get(STAGES, name)
      if not is_settled(stage) then
        stage.state = 'skipped'
        put(STAGES, name, stage)
      end
    end
  end
  redis.call('HSET', RUN, 'state', state, 'finished_at', string.format('%.3f', now()))
  if err then redis.call('HSET', RUN, 'error', err) end
  redis.call('SREM', ACTIVE, redis.call('HGET', RUN, 'id'))
  emit_state(state, err)
end

-- A claimed unit becomes free again; what it was in the middle of starts anew.
local function give_back(planned, unit)
  unit.state, unit.token, unit.expires = 'waiting', '', 0
  put(UNITS, planned.id, unit)
  for _, name in ipairs(planned.stages) do
    local stage = get(STAGES, name)
    if stage.state == 'running' then
      stage.state, stage.done, stage.worker = 'waiting', 0, cjson.null
      put(STAGES, name, stage)
      emit('progress', cjson.encode(stage))
    end
  end
end

-- The same after a death; more than `retries` of them end the run in `state`.
local function give_back_after_death(planned, unit, retries, state, err)
  unit.attempts = unit.attempts + 1
  give_back(planned, unit)
  if unit.attempts > retries then
    finish(state, err)
  else
    redis.call('HINCRBY', RUN, 'attempt', 1)
  end
end

local function planned_unit(id)
  for _, planned in ipairs(plan()) do
    if planned.id == id then return planned end
  end
end
