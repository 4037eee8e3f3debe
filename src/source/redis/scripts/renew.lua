-- Renews the lease, or gives it up. Any epoch of a reader may do that, because the next one may have begun without its knowledge.
-- KEYS: lease, state. ARGV: token, time-to-live of the lease in ms, or 0 to give it up.
-- Returns "ok" or "lost".
local lease, state = unpack(KEYS)
local token, ttl = unpack(ARGV)
local reader = string.match(token, '^[^.]+')
if string.match(redis.call('GET', lease) or '', '^[^.]+') ~= reader then
  return 'lost'
end
if ttl == '0' then
  -- Those who wait for the lease need not wait for its end.
  redis.call('HSET', state, 'released', reader)
  redis.call('DEL', lease)
else
  redis.call('PEXPIRE', lease, ttl)
end
return 'ok'
