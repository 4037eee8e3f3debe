-- Acknowledges entries of a stream.
-- KEYS: lease, state, stream. ARGV: token, time-to-live of the lease in ms, group, IDs in order.
-- Returns "ok" or "lost".
local lease, state, stream = unpack(KEYS)
if redis.call('GET', lease) ~= ARGV[1] then
  return 'lost'
end
redis.call('PEXPIRE', lease, ARGV[2])
redis.call('XACK', stream, ARGV[3], unpack(ARGV, 4))
redis.call('HSET', state, 'settled', ARGV[#ARGV])
return 'ok'
