-- Takes the lease, and prepares what the relay reads.
-- KEYS: lease, state, list or stream, stream of what was taken from a list. ARGV: reader, token of the epoch, time-to-live of the
-- lease in ms, 1 to take it from another reader, a new incarnation, kind ("list" or "stream"), the newest ID that this reader has
-- had, the incarnation it belongs to, and for a stream: group, where a new group begins, the ID up to which this reader has settled
-- everything, or ""; another reader that had the lease, or "", for how many ms that lasts, as far as this one knows, and the
-- number of this reader's epoch that was about to begin when it saw that.
-- Returns {"ok", incarnation, what happened, settled through, unsettled, last of these}, {"held", by which reader, for
-- how many ms, settled through}, {"held"} if Redis has lost the lease, or {"kind", what is there instead}. What happened is "", "group", "recreated",
-- "behind", or "new" for a group that begins with new entries.
local lease, state, key, taken_stream = unpack(KEYS)
local reader, token, ttl, takes_over, fresh, kind, newest, known, group, deliver, resume, other, lasts, since = unpack(ARGV)

local found = redis.call('TYPE', key).ok
if found ~= 'none' and found ~= kind then
  return {'kind', found}
end
-- Each epoch has its own token, so a late request of an earlier epoch has no effect.
if takes_over ~= '1' then
  local holder, epoch = string.match(redis.call('GET', lease) or '', '^([^.]+)%.(%d+)$')
  if holder and holder ~= reader then
    local through = redis.call('HGET', state, 'settled') or redis.call('HGET', state, 'start') or ''
    return {'held', holder, redis.call('PTTL', lease), through}
  end
  -- Until then, the other one still publishes if Redis has lost its lease. This reader may have got the lease since, without
  -- knowing it.
  local is_ours = holder and tonumber(epoch) >= tonumber(since)
  if tonumber(lasts) > 0 and not is_ours and redis.call('HGET', state, 'released') ~= other then
    return {'held'}
  end
end
-- The last of all, so that a relay that may not do the rest takes the lease from nobody.
local function lead(...)
  redis.call('HDEL', state, 'released')
  redis.call('SET', lease, token, 'PX', ttl)
  return {'ok', ...}
end

-- Redis has lost what this reader has already had, in a failover for example. It may give the same IDs to other messages, so these
-- must not be taken for the old ones.
local function is_behind(top)
  return known ~= '' and known == redis.call('HGET', state, 'incarnation') and is_before(top, newest)
end

local settled = redis.call('HGET', state, 'settled')
if kind == 'list' then
  local happened, last, copies = '', redis.call('HGET', state, 'last') or '0-0', facts_of(taken_stream)
  if is_before(last, copies['last-generated-id']) then
    last = copies['last-generated-id']
  end
  if is_behind(last) then
    happened, last = 'behind', newest
    redis.call('HSET', state, 'incarnation', fresh, 'last', last)
  end
  -- Without a state, all that is kept comes again.
  if redis.call('HSETNX', state, 'incarnation', fresh) == 1 then
    redis.call('HSET', state, 'taken', copies.length, 'done', 0)
  end
  local taken = tonumber(redis.call('HGET', state, 'taken') or '0')
  local done = tonumber(redis.call('HGET', state, 'done') or '0')
  local incarnation = redis.call('HGET', state, 'incarnation')
  return lead(incarnation, happened, settled or '0-0', math.max(0, taken - done), last)
end

-- A stream was deleted and made again if it has had fewer entries than before, or if its newest ID is behind.
local happened, start = '', deliver
local began = redis.call('HGET', state, 'start')
if not settled and not began and resume ~= '' then
  -- Redis has forgotten what this reader has settled.
  settled = resume
end
if found == 'none' then
  if settled or began then
    happened = 'recreated'
  end
elseif settled or began then
  local stream = facts_of(key)
  local added = math.max(redis.call('HGET', state, 'added') or 0, redis.call('HGET', state, 'read') or 0)
  if stream['entries-added'] < added or (settled and is_before(stream['last-generated-id'], settled)) then
    happened = 'recreated'
  elseif is_behind(stream['last-generated-id']) then
    happened = 'behind'
    redis.call('HSET', state, 'incarnation', fresh)
  end
end
if happened == 'recreated' then
  redis.call('DEL', state)
  -- If creating the group fails now, the next try begins there as well.
  redis.call('HSET', state, 'start', '0-0')
  settled, began = false, false
end
redis.call('HSETNX', state, 'incarnation', fresh)

local exists = false
if found ~= 'none' then
  for _, each in ipairs(redis.call('XINFO', 'GROUPS', key)) do
    exists = exists or fields(each).name == group
  end
end
if not exists then
  -- Never begin at `start` a second time: everything added since then would be skipped.
  local from = settled or began
  if happened == 'recreated' then
    start = '0-0'
  elseif from then
    happened, start = 'group', from
  end
  redis.call('XGROUP', 'CREATE', key, group, start, 'MKSTREAM')
  if start == '$' then
    happened = 'new'
  end
  -- The number of entries up to that ID is known only if it is before the first or the last of the stream.
  redis.call('HDEL', state, 'read')
end
local stream = facts_of(key)
redis.call('HSET', state, 'added', stream['entries-added'])
if not exists then
  if start == '$' then
    redis.call('HSET', state, 'read', stream['entries-added'], 'start', stream['last-generated-id'])
  else
    redis.call('HSET', state, 'start', start)
  end
  if start == '0-0' then
    -- What was removed before the group existed is nobody's loss.
    local removed = stream['entries-added'] - stream.length
    redis.call('HSET', state, 'read', happened == '' and removed or 0)
  end
end
local pending = redis.call('XPENDING', key, group)
-- Nothing was to be read up to where a group of new entries began.
local through = settled or (deliver == '$' and redis.call('HGET', state, 'start')) or '0-0'
return lead(redis.call('HGET', state, 'incarnation'), happened, through, pending[1], pending[3] or '0-0')
