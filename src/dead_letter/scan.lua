-- Reads dead letters without their payloads, which may be large.
-- KEYS: stream. ARGV: first ID, last ID, most letters, the field of the payload, the field that is returned in its place with the
-- payload's length.
-- Returns what XRANGE does.
local first, last, most, payload, size = unpack(ARGV)
local letters = redis.call('XRANGE', KEYS[1], first, last, 'COUNT', most)
for _, letter in ipairs(letters) do
  local fields = letter[2]
  for at = 1, #fields - 1, 2 do
    if fields[at] == payload then
      fields[at] = size
      fields[at + 1] = tostring(#fields[at + 1])
    end
  end
end
return letters
