-- Takes the lease, and prepares what the relay reads.
-- KEYS: lease, state, list or stream. ARGV: reader, token of the epoch, time-to-live of the lease in ms, 1 to take it from
-- another reader, a new incarnation, kind ("list" or "stream"), and for a stream: group, where a new group begins.
-- Returns {"ok", incarnation, what happened to the group, settled through, unsettled, last of these}, {"held"}, or
-- {"kind", what is there instead}.
local lease, state, key = KEYS[1], KEYS[2], KEYS[3]
local reader, token, ttl, takes_over, fresh, kind, group, start = unpack(ARGV)

local found = redis.call('TYPE', key).ok
if found ~= 'none' and found ~= kind then
  return {'kind', found}
end
local holder = redis.call('GET', lease)
-- Each epoch has a token of its own, so what an earlier one has sent and is still under way has no effect any more.
if holder and string.sub(holder, 1, #reader) ~= reader and takes_over ~= '1' then
  return {'held'}
end
redis.call('SET', lease, token, 'PX', ttl)

local function id(text)
  local ms, n = string.match(text, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(n)
end
local function is_before(a, b)
  local a_ms, a_n = id(a)
  local b_ms, b_n = id(b)
  return a_ms < b_ms or (a_ms == b_ms and a_n < b_n)
end
local function fields(list)
  local map = {}
  for at = 1, #list, 2 do
    map[list[at]] = list[at + 1]
  end
  return map
end

local settled = redis.call('HGET', state, 'settled')
if kind == 'list' then
  redis.call('HSETNX', state, 'incarnation', fresh)
  local taken = tonumber(redis.call('HGET', state, 'taken') or '0')
  local done = tonumber(redis.call('HGET', state, 'done') or '0')
  local last = redis.call('HGET', state, 'last') or '0-0'
  return {'ok', redis.call('HGET', state, 'incarnation'), '', settled or '0-0', taken - done, last}
end

-- A stream was deleted and made again if it has had fewer entries than before, or if its newest ID is behind.
local happened = ''
if found == 'none' then
  if settled then
    happened = 'recreated'
  end
elseif settled then
  local stream = fields(redis.call('XINFO', 'STREAM', key))
  local added = tonumber(redis.call('HGET', state, 'added') or '0')
  if stream['entries-added'] < added or is_before(stream['last-generated-id'], settled) then
    happened = 'recreated'
  end
end
if happened == 'recreated' then
  redis.call('DEL', state)
  settled = false
end
redis.call('HSETNX', state, 'incarnation', fresh)

local exists = false
if found ~= 'none' then
  for _, each in ipairs(redis.call('XINFO', 'GROUPS', key)) do
    exists = exists or fields(each).name == group
  end
end
if not exists then
  if settled then
    happened, start = 'group', settled
  elseif happened == 'recreated' then
    start = '0'
  end
  redis.call('XGROUP', 'CREATE', key, group, start, 'MKSTREAM')
  -- How many entries the stream had up to there is known only at its ends.
  redis.call('HDEL', state, 'read')
  if start == '0' then
    redis.call('HSET', state, 'read', 0)
  end
end
local stream = fields(redis.call('XINFO', 'STREAM', key))
redis.call('HSET', state, 'added', stream['entries-added'])
if not exists and start == '$' then
  redis.call('HSET', state, 'read', stream['entries-added'])
end
local pending = redis.call('XPENDING', key, group)
return {'ok', redis.call('HGET', state, 'incarnation'), happened, settled or '0-0', pending[1], pending[3] or '0-0'}
