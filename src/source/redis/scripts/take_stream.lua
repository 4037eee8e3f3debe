#!lua flags=allow-oom
-- Reads entries of a stream: first what is pending, in the order of IDs, then new ones.
-- KEYS: lease, state, stream. ARGV: token, time-to-live of the lease in ms, most entries, most bytes, 1 if the first entry may have
-- any size, bytes that each entry needs beside its fields, group, consumer, ID from which on pending entries are claimed, or "" if
-- all are.
-- Returns {"ok", where to go on claiming or "", entries left, {IDs that were trimmed while pending}, what was trimmed before it was
-- delivered, last ID that was delivered, 1 if the next entry has no room, entry, entry, …}, {"lost"} or {"gone"}. The fifth is {} or
-- {last ID before it, first ID after it, how many, 1 if that is exact}.
local lease, state, stream = unpack(KEYS)
local token, ttl, most, room, any_size, overhead, group, consumer, cursor = unpack(ARGV)
if redis.call('GET', lease) ~= token then
  return {'lost'}
end
redis.call('PEXPIRE', lease, ttl)
most, room, overhead = tonumber(most), tonumber(room), tonumber(overhead)

local trimmed, unread, bytes = {}, {}, 0
local reply = {'ok', '', 0, trimmed, unread, '0-0', 0}
local function size(entry)
  local sum = overhead
  for _, text in ipairs(entry[2]) do
    sum = sum + #text
  end
  return sum
end
local function add(entry)
  reply[#reply + 1] = entry
  bytes = bytes + size(entry)
end
-- The first entry that comes again always comes: what waits for it may be what takes the room.
local function has_room()
  return #reply - 7 < most and (bytes < room or #reply == 7)
end
local function is_gone(answer)
  return type(answer) == 'table' and answer.err and string.find(answer.err, 'NOGROUP', 1, true)
end

-- IDs of trimmed entries take time and room as well.
while cursor ~= '' and has_room() and #trimmed < 1000 do
  local answer = redis.pcall('XAUTOCLAIM', stream, group, consumer, 0, cursor, 'COUNT', 1)
  if is_gone(answer) then
    return {'gone'}
  elseif answer.err then
    return answer
  end
  cursor = answer[1]
  for _, entry in ipairs(answer[2]) do
    add(entry)
  end
  for _, id in ipairs(answer[3]) do
    trimmed[#trimmed + 1] = id
  end
  if cursor == '0-0' then
    cursor = ''
  end
end
reply[2] = cursor

local function fields(list)
  local map = {}
  for at = 1, #list, 2 do
    map[list[at]] = list[at + 1]
  end
  return map
end
local function facts_of_group()
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if groups.err then
    return nil
  end
  for _, each in ipairs(groups) do
    local facts = fields(each)
    if facts.name == group then
      return facts
    end
  end
end
-- Numbers in Lua have only 53 bits.
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

-- `read` is how many entries the stream had up to the last one that was delivered. If all that is left is newer, the stream has
-- removed as many more from its front as entries were added, are not there, and were not read.
local read = tonumber(redis.call('HGET', state, 'read') or nil)
local last = '0-0'
if cursor == '' and has_room() then
  local facts = facts_of_group()
  if not facts then
    return {'gone'}
  end
  last = facts['last-delivered-id']
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if not first or is_before(last, first[1]) then
    local all = fields(redis.call('XINFO', 'STREAM', stream))
    local removed = all['entries-added'] - all.length
    if read and removed > read then
      unread[1] = last
      unread[2] = first and first[1] or all['last-generated-id']
      unread[3] = removed - read
      -- Entries that were deleted one by one count as well.
      unread[4] = is_before(last, all['max-deleted-entry-id']) and 0 or 1
      -- Redis goes on counting as if they had been read, and so would its `lag`.
      local at = first and last or all['last-generated-id']
      redis.call('XGROUP', 'SETID', stream, group, at, 'ENTRIESREAD', removed)
      last = at
    end
    if not read or removed > read then
      read = removed
      redis.call('HSET', state, 'read', read)
    end
  end
end

local came = 0
while cursor == '' and #reply - 7 < most do
  local ahead = redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', 1)[1]
  if not ahead then
    break
  end
  local is_first = #reply == 7 and any_size == '1'
  if not is_first and bytes + size(ahead) > room then
    if #reply == 7 then
      reply[7] = 1
    end
    break
  end
  local answer = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', stream, '>')
  if is_gone(answer) then
    return {'gone'}
  elseif answer and answer.err then
    return answer
  elseif not answer then
    break
  end
  local entry = answer[1][2][1]
  last = entry[1]
  add(entry)
  came = came + 1
end
if read and came > 0 then
  redis.call('HSET', state, 'read', read + came)
end
local facts = facts_of_group()
if facts then
  reply[3] = math.max(0, tonumber(facts.lag or 0) or 0)
  reply[6] = facts['last-delivered-id']
  if facts['entries-read'] then
    redis.call('HSET', state, 'added', facts['entries-read'])
  end
end
return reply
