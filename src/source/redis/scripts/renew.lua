-- Renews the lease, or gives it up.
-- KEYS: lease, state. ARGV: token, time-to-live of the lease in ms, or 0 to give it up.
-- Returns "ok" or "lost".
local lease, state = unpack(KEYS)
local token, ttl = unpack(ARGV)
if redis.call('GET', lease) ~= token then
  return 'lost'
end
if ttl == '0' then
  -- Those who wait for the lease need not wait for its end.
  redis.call('HSET', state, 'released', string.match(token, '^[^.]+'))
  redis.call('DEL', lease)
else
  redis.call('PEXPIRE', lease, ttl)
end
return 'ok'
