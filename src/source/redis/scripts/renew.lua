-- Renews the lease, or gives it up.
-- KEYS: lease. ARGV: token, time-to-live of the lease in ms, or 0 to give it up.
-- Returns "ok" or "lost".
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'lost'
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 'ok'
