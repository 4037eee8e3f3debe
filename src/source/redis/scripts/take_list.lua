-- Takes messages from a list, and keeps them in a stream of the relay's own until they are settled.
-- KEYS: lease, state, list, stream of what was taken. ARGV: token, time-to-live of the lease in ms, most messages, most bytes,
-- 1 if the first message may have any size, bytes that each message needs beside its payload, end of the list ("LPOP" or "RPOP"),
-- ID after which what was taken before comes again, or "" if all of it has come.
-- Returns {"ok", what follows, messages left in the list, ID, payload, ID, payload, …} or {"lost"}. What follows is 1 if more was
-- taken before, 2 if the next message of the list has no room, else 0.
local lease, state, list, stream = unpack(KEYS)
local token, ttl, most, room, any_size, overhead, pop, after = unpack(ARGV)
if redis.call('GET', lease) ~= token then
  return {'lost'}
end
redis.call('PEXPIRE', lease, ttl)
most, room, overhead = tonumber(most), tonumber(room), tonumber(overhead)
local reply, bytes, again = {'ok', 0, 0}, 0, after ~= ''
local function add(id, payload)
  reply[#reply + 1] = id
  reply[#reply + 1] = payload
  bytes = bytes + #payload + overhead
end

-- The first of these needs no room: the messages that fill the window may be waiting for it.
while again and (#reply - 3) / 2 < most and (bytes < room or #reply == 3) do
  local entry = redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', 1)[1]
  if not entry then
    again = false
  else
    after = entry[1]
    add(after, entry[2][2])
  end
end
if again then
  reply[2] = 1
  reply[3] = redis.call('LLEN', list)
  return reply
end

-- The state may be older than the stream, or lost.
local last = redis.call('HGET', state, 'last') or '0-0'
local top = facts_of(stream)['last-generated-id']
if is_before(last, top) then
  last = top
end
-- IDs rise even if the clock goes back, and their second number always fits into a version.
local ms, n = string.match(last, '^(%d+)-(%d+)$')
ms, n = tonumber(ms), tonumber(n)
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local ids, failure = {}, nil
while (#reply - 3) / 2 < most do
  local payload = redis.call('LINDEX', list, pop == 'LPOP' and #ids or -1 - #ids)
  if not payload then
    break
  end
  local is_first = #reply == 3 and any_size == '1'
  if not is_first and bytes + #payload + overhead > room then
    if #reply == 3 then
      reply[2] = 2
    end
    break
  end
  if now > ms then
    ms, n = now, 0
  elseif n < 4095 then
    n = n + 1
  else
    ms, n = ms + 1, 0
  end
  local id = string.format('%.0f-%.0f', ms, n)
  -- First the copy: nothing takes back what a script has done before it failed.
  local copied = redis.pcall('XADD', stream, id, 'd', payload)
  if copied.err then
    failure = copied
    break
  end
  ids[#ids + 1] = id
  add(id, payload)
end
if #ids > 0 then
  local popped = redis.pcall(pop, list, #ids)
  if popped.err then
    redis.call('XDEL', stream, unpack(ids))
    return popped
  end
  local taken = tonumber(redis.call('HGET', state, 'taken') or '0') + #ids
  redis.call('HSET', state, 'last', ids[#ids], 'taken', string.format('%.0f', taken))
end
if failure then
  return failure
end
reply[3] = redis.call('LLEN', list)
return reply
