-- Settles what was taken from a list, up to an ID. What is settled is removed, but for the newest.
-- KEYS: lease, state, stream of what was taken. ARGV: token, time-to-live of the lease in ms, ID, number of messages, how many
-- settled messages are kept.
-- Returns "ok" or "lost".
local lease, state, stream = unpack(KEYS)
local token, ttl, through, count, keep = unpack(ARGV)
if redis.call('GET', lease) ~= token then
  return 'lost'
end
redis.call('PEXPIRE', lease, ttl)
redis.call('HSET', state, 'settled', through)
local done = redis.call('HINCRBY', state, 'done', count)
keep = tonumber(keep)
if keep == 0 then
  local ms, n = string.match(through, '^(%d+)-(%d+)$')
  redis.call('XTRIM', stream, 'MINID', '=', string.format('%s-%.0f', ms, tonumber(n) + 1))
elseif done - tonumber(redis.call('HGET', state, 'trimmed') or '0') >= keep then
  local newest = redis.call('XREVRANGE', stream, through, '-', 'COUNT', keep)
  if #newest == keep then
    redis.call('XTRIM', stream, 'MINID', '=', newest[keep][1])
  end
  redis.call('HSET', state, 'trimmed', done)
end
return 'ok'
