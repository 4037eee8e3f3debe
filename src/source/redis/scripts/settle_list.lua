-- Settles what was taken from a list, up to an ID. What is settled is removed, except for the newest.
-- KEYS: lease, state, stream of what was taken. ARGV: token, time-to-live of the lease in ms, ID, number of messages, how many
-- settled messages are kept.
-- Returns "ok" or "lost".
local lease, state, stream = unpack(KEYS)
local token, ttl, through, count, keep = unpack(ARGV)
if redis.call('GET', lease) ~= token then
  return 'lost'
end
redis.call('PEXPIRE', lease, ttl)
-- One command, so that both fields change or neither does, even if the ACL denies a command.
local done = tonumber(redis.call('HGET', state, 'done') or '0') + tonumber(count)
redis.call('HSET', state, 'settled', through, 'done', string.format('%.0f', done))
keep = tonumber(keep)
if keep == 0 then
  local ms, n = string.match(through, '^(%d+)-(%d+)$')
  redis.call('XTRIM', stream, 'MINID', '=', string.format('%s-%.0f', ms, tonumber(n) + 1))
elseif done - tonumber(redis.call('HGET', state, 'trimmed') or '0') >= keep then
  -- At least `keep` messages were settled since the mark.
  local mark = redis.call('HGET', state, 'mark')
  if mark then
    redis.call('XTRIM', stream, 'MINID', '=', mark)
  end
  redis.call('HSET', state, 'trimmed', string.format('%.0f', done), 'mark', through)
end
return 'ok'
