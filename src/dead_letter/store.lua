-- Stores a dead letter.
-- KEYS: stream, mark of the letter's ID. ARGV: seconds that the mark lasts, time in ms before which letters are removed or "", most
-- letters that are removed, fields and values.
-- Returns 1, or 0 if the letter is stored already.
local stream, mark = unpack(KEYS)
local lasts, oldest_kept, most = unpack(ARGV)
if redis.call('EXISTS', mark) == 1 then
  return 0
end
local last = 0
if redis.call('EXISTS', stream) == 1 then
  local facts = redis.call('XINFO', 'STREAM', stream)
  for at = 1, #facts, 2 do
    if facts[at] == 'last-generated-id' then
      last = tonumber(string.match(facts[at + 1], '^%d+'))
    end
  end
end
if oldest_kept ~= '' then
  for _ = 1, tonumber(most) do
    local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    local stored = oldest and tonumber(oldest[2][4] or '')
    if not stored or stored >= tonumber(oldest_kept) then
      break
    end
    redis.call('XDEL', stream, oldest[1])
  end
end
redis.call('XADD', stream, string.format('%.0f-0', last + 1), unpack(ARGV, 4))
redis.call('SET', mark, '', 'EX', lasts)
return 1
