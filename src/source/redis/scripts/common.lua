-- What the scripts share. IDs are compared as texts, because numbers in Lua have only 53 bits.
local function is_less(a, b)
  if #a ~= #b then
    return #a < #b
  end
  return a < b
end
local function is_before(a, b)
  local a_ms, a_n = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_n = string.match(b, '^(%d+)-(%d+)$')
  return is_less(a_ms, b_ms) or (a_ms == b_ms and is_less(a_n, b_n))
end
local function fields(list)
  local map = {}
  for at = 1, #list, 2 do
    map[list[at]] = list[at + 1]
  end
  return map
end
-- Returns the facts of a stream, which may not exist.
local function facts_of(stream)
  if redis.call('EXISTS', stream) == 0 then
    return { length = 0, ['entries-added'] = 0, ['last-generated-id'] = '0-0', ['max-deleted-entry-id'] = '0-0' }
  end
  return fields(redis.call('XINFO', 'STREAM', stream))
end

