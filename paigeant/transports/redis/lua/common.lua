-- What every script of this folder begins with: where things are, what time it is, and whether Redis is full.
-- ARGV: prefix, now in ms (0: the server's clock), then what the script itself needs.
--
-- A queue is a stream per priority with one consumer group, and a sorted set of the messages that are not due yet. What
-- nobody holds any more, but was handed out before, belongs to the consumer '@free'.
--
-- Nothing here reads all there is: a script stops after MOST messages or MOST_BYTES, and is called again for the rest.
local GROUP, FREE = 'workers', '@free'
local MOST, MOST_BYTES, PAGE = 200, 1000000, 10
local SENT_FOR = 7 * 86400000

local at = 0
local function take() at = at + 1; return ARGV[at] end
local function number() return tonumber(take()) end
local function numeral(n) return string.format('%.0f', n) end

local prefix, now = take(), number()
if now == 0 then
  local clock = redis.call('TIME')
  now = clock[1] * 1000 + math.floor(clock[2] / 1000)
end

local function stream_of(queue, priority) return prefix .. 'queue:' .. queue .. ':' .. priority end
local function queue_of(stream) return string.match(string.sub(stream, #prefix + 1), '^queue:(.*):(%d+)$') end
local function delayed_of(queue) return prefix .. 'delayed:' .. queue end

-- Budgets: how much one call may touch.
local messages_left, bytes_left = MOST, MOST_BYTES
local function spend(bytes) messages_left, bytes_left = messages_left - 1, bytes_left - bytes end
local function is_spent() return messages_left <= 0 or bytes_left <= 0 end

-- A full Redis (maxmemory, noeviction) refuses the first write of a script if that command may need memory, and lets
-- everything pass after a first write that needs none. The first command below writes nothing and is only refused.
local function is_without_room()
  local answer = redis.pcall('SETRANGE', prefix .. 'room', 0, '')
  if type(answer) ~= 'table' or not answer.err or not string.find(answer.err, 'OOM', 1, true) then return false end
  redis.call('DEL', prefix .. 'room')
  return true
end

-- What somebody else wrote at a key of ours is renamed, so that no later command can fail because of it.
local aside = {}
local function rename(key, found, kind)
  local to, copies = prefix .. 'aside:' .. key .. ':' .. numeral(now), 0
  while redis.call('EXISTS', to .. string.rep('+', copies)) == 1 do copies = copies + 1 end
  to = to .. string.rep('+', copies)
  redis.call('RENAME', key, to)
  aside[#aside + 1] = 'the key ' .. key .. ' was a ' .. found .. ', not a ' .. kind .. '; it is now ' .. to
end

local function ensure(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then rename(key, found, kind) end
end

local function next_number(key)
  local found = redis.pcall('INCR', key)
  if type(found) == 'number' then return found end
  rename(key, redis.call('TYPE', key).ok, 'number')
  return redis.call('INCR', key)
end

local function set_aside(packed, where)
  ensure(prefix .. 'aside', 'stream')
  redis.call('XADD', prefix .. 'aside', 'MAXLEN', '~', 10000, '*', 'reason', 'no message: found in ' .. where,
    'body', packed)
  aside[#aside + 1] = 'what stood in ' .. where .. ' was no message; it is now in ' .. prefix .. 'aside'
end

-- The key sent:ID says where the message with that id waits or is held: "stream entry", or "due" and when.
local function place(id, where, lasts)
  if id ~= '' then redis.call('SET', prefix .. 'sent:' .. id, where, 'PX', lasts) end
end

local function whereabouts(id)
  local where = id ~= '' and redis.pcall('GET', prefix .. 'sent:' .. id)
  return type(where) == 'string' and where or nil
end

local function forget(id, where)
  if id ~= '' and whereabouts(id) == where then redis.call('DEL', prefix .. 'sent:' .. id, prefix .. 'body:' .. id) end
end

local function fields(entry)
  local f = {}
  for i = 1, #entry[2], 2 do f[entry[2][i]] = entry[2][i + 1] end
  return f
end

local function size_of(entry)
  local size = 0
  for _, part in ipairs(entry[2]) do size = size + #part end
  return size
end

-- Whether nobody but '@free' has the entry; nil when there is no such stream or group.
local function is_unheld(stream, entry)
  local pending = redis.pcall('XPENDING', stream, GROUP, entry, entry, 1)
  if pending.err then return nil end
  return not pending[1] or pending[1][2] == FREE
end
