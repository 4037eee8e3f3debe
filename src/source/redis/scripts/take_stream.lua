-- Reads entries of a stream: first what is pending, in the order of IDs, then new ones.
-- KEYS: lease, state, stream. ARGV: token, time-to-live of the lease in ms, most entries, most bytes, 1 if the first entry may have
-- any size, bytes that each entry needs beside its fields, group, consumer, ID from which on pending entries are claimed, or "" if
-- all are.
-- Returns {"ok", where to go on claiming or "", entries left, {IDs that were trimmed while pending}, what was trimmed before it was
-- delivered, last ID that was delivered, 1 if the next entry has no room, entry, entry, …}, {"lost"} or {"gone"}. The fifth is {} or
-- {last ID before it, first ID after it or "" if there is none, how many, 1 if that is exact}.
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
local function is_gone(answer)
  return type(answer) == 'table' and answer.err and string.find(answer.err, 'NOGROUP', 1, true)
end

-- The first one that comes again needs no room: the messages that fill the window may be waiting for it. The IDs of trimmed
-- entries take time and room as well.
while cursor ~= '' and #reply - 7 < most and (bytes < room or #reply == 7) and #trimmed < 1000 do
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

local facts
local groups = redis.pcall('XINFO', 'GROUPS', stream)
if groups.err and not string.find(groups.err, 'no such key', 1, true) then
  return groups
end
for _, each in ipairs(groups) do
  local map = fields(each)
  if map.name == group then
    facts = map
  end
end
if not facts then
  return {'gone'}
end
local last, lag = facts['last-delivered-id'], facts.lag

-- `read` counts the entries added up to the last delivered one. As many as were added and are not there were removed. If every
-- entry that is left is newer than the last delivered one, those of them that are not among `read` were never delivered.
local read = tonumber(redis.call('HGET', state, 'read') or nil)
-- Redis itself counts them where it can, and knows of entries that were deleted one by one.
local counted = tonumber(facts['entries-read'] or nil)
if counted and (not read or counted > read) then
  read = counted
end
local all = facts_of(stream)
if cursor == '' then
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if not first or is_before(last, first[1]) then
    local removed = all['entries-added'] - all.length
    if read and removed > read then
      unread[1] = last
      unread[2] = first and first[1] or ''
      unread[3] = removed - read
      -- Entries that were deleted one by one count as well.
      unread[4] = is_before(last, all['max-deleted-entry-id']) and 0 or 1
      -- Otherwise Redis goes on counting as if they were read, and its `lag` would be wrong.
      last = first and last or all['last-generated-id']
      redis.call('XGROUP', 'SETID', stream, group, last, 'ENTRIESREAD', removed)
      lag = all.length
    end
    if not read or removed > read then
      read = removed
      redis.call('HSET', state, 'read', read)
    end
  end
end

-- First how many have room, then all of them at once.
local count, ahead, sum, at_end = 0, last, bytes, false
while cursor == '' and #reply - 7 + count < most do
  local next = redis.call('XRANGE', stream, '(' .. ahead, '+', 'COUNT', 1)[1]
  if not next then
    at_end = true
    break
  end
  local is_first = #reply == 7 and count == 0
  sum = sum + size(next)
  if sum > room and not (is_first and any_size == '1') then
    reply[7] = is_first and 1 or 0
    break
  end
  count, ahead = count + 1, next[1]
end
if count > 0 then
  local answer = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count, 'STREAMS', stream, '>')
  if is_gone(answer) then
    return {'gone'}
  elseif answer and answer.err then
    return answer
  end
  for _, entry in ipairs(answer[1][2]) do
    add(entry)
  end
  last = ahead
  if read then
    read = read + count
    redis.call('HSET', state, 'read', read)
  end
end

-- Redis does not know its `lag` where entries were deleted, or for a group that begins in the middle.
if at_end then
  lag = 0
elseif lag then
  lag = lag - count
elseif read then
  lag = all['entries-added'] - read
else
  lag = #redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', 1)
end
reply[3] = math.max(0, lag)
reply[6] = last
return reply
