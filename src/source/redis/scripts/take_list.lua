-- Takes messages from a list, and keeps them in a stream of the relay's own until they are settled.
-- KEYS: lease, state, list, stream of what was taken. ARGV: token, time-to-live of the lease in ms, most messages, most bytes,
-- end of the list ("LPOP" or "RPOP"), ID after which what was taken before comes again, or "" if all of it has come.
-- Returns {"ok", 1 if more was taken before, messages left in the list, ID, payload, ID, payload, …} or {"lost"}.
local lease, state, list, stream = unpack(KEYS)
local token, ttl, most, room, pop, after = unpack(ARGV)
if redis.call('GET', lease) ~= token then
  return {'lost'}
end
redis.call('PEXPIRE', lease, ttl)
most, room = tonumber(most), tonumber(room)
local reply, bytes, again = {'ok', 0, 0}, 0, after ~= ''

while again and (#reply - 3) / 2 < most and (bytes < room or #reply == 3) do
  local entry = redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', 1)[1]
  if not entry then
    again = false
  else
    after = entry[1]
    reply[#reply + 1] = after
    reply[#reply + 1] = entry[2][2]
    bytes = bytes + #entry[2][2]
  end
end
if again then
  reply[2] = 1
  reply[3] = redis.call('LLEN', list)
  return reply
end

-- IDs rise even if the clock goes back, and their second number always fits into a version.
local last = redis.call('HGET', state, 'last') or '0-0'
local ms, n = string.match(last, '^(%d+)-(%d+)$')
ms, n = tonumber(ms), tonumber(n)
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local count = 0
while (#reply - 3) / 2 < most and (bytes < room or #reply == 3) do
  local payload = redis.call(pop, list)
  if not payload then
    break
  end
  if now > ms then
    ms, n = now, 0
  elseif n < 4095 then
    n = n + 1
  else
    ms, n = ms + 1, 0
  end
  last = string.format('%.0f-%.0f', ms, n)
  redis.call('XADD', stream, last, 'd', payload)
  reply[#reply + 1] = last
  reply[#reply + 1] = payload
  bytes = bytes + #payload
  count = count + 1
end
if count > 0 then
  redis.call('HSET', state, 'last', last)
  redis.call('HINCRBY', state, 'taken', count)
end
reply[3] = redis.call('LLEN', list)
return reply
