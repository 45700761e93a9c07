-- One exchange of a holder with its queues: settle, make due, free what the dead held, claim. Atomic, in one trip.
--
-- A queue is a stream per priority with one consumer group. A holder is a consumer of the group; what nobody holds any
-- more but was handed out before belongs to the consumer '@free'. The delivery count of the group is the count of
-- deliveries; a claim by another consumer raises it, so (holder, count) is the fencing token. Only a holder that is
-- registered may claim: what a holder has that is not registered, nobody would ever free.
--
-- Redis undoes nothing when a script fails, so nothing may fail after the first write. What was written by somebody
-- else, and could make a command fail, is set aside first.
--
-- ARGV: prefix, now in ms (0: the server's clock), holder, lease in ms (0: keep the lease as it is),
--       known (1: the holder was registered before), limit, number of queues, the queues, number of settlements, and
--       for each: kind (send|ack|release), stream, entry, count, id, delay in ms, tried (0|1), number of messages, and
--       for each of those: queue, id, body, headers, delay in ms, priority, expires after ms (-1: never).
-- Returns: {lost (0|1), {accepted (0|1), ...},
--           {{queue, stream, entry, count, deliveries, redelivered (0|1), expired (0|1), field, value, ...}, ...},
--           ms until the next delayed message is due, or -1, number of expired messages, mark of this database,
--           {what was set aside, ...}}

-- The key sent:ID says where a message with that id is: "stream entry", or "due" and when, or "done" by whom. It lasts a
-- while after the message is gone, so that a settlement whose answer was lost is not made twice; it holds up nobody else
-- who sends the id.
local GROUP, FREE, SENT_FOR, REMEMBERED_FOR = 'workers', '@free', 7 * 86400000, 300000
local at = 0
local function take() at = at + 1; return ARGV[at] end
local function number() return tonumber(take()) end

local prefix, now, me, lease, known, limit = take(), number(), take(), number(), number(), number()
if now == 0 then
  local clock = redis.call('TIME')
  now = clock[1] * 1000 + math.floor(clock[2] / 1000)
end
local holders, delayed, streams = prefix .. 'holders', prefix .. 'delayed', prefix .. 'streams'
local expiring, names = prefix .. 'expiring', prefix .. 'queues'

local aside = {}
local function ensure(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then
    local to = prefix .. 'aside:' .. key .. ':' .. string.format('%.0f', now)
    redis.call('RENAME', key, to)
    aside[#aside + 1] = 'the key ' .. key .. ' was a ' .. found .. ', not a ' .. kind .. '; it is now ' .. to
  end
end
ensure(holders, 'zset')
ensure(delayed, 'zset')
ensure(expiring, 'zset')
ensure(streams, 'set')
ensure(names, 'set')

local function stream_of(queue, priority) return prefix .. 'queue:' .. queue .. ':' .. priority end

local function with_group(stream, command)
  local reply = redis.pcall(unpack(command))
  if type(reply) == 'table' and reply.err then
    if string.find(reply.err, 'WRONGTYPE') then ensure(stream, 'stream') end
    redis.call('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM')
    redis.call('SADD', streams, stream)
    reply = redis.call(unpack(command))
  end
  return reply
end

local function place(id, where, lasts)
  if id ~= '' then redis.call('SET', prefix .. 'sent:' .. id, where, 'PX', lasts) end
end

local function whereabouts(id)
  local where = id ~= '' and redis.pcall('GET', prefix .. 'sent:' .. id)
  return type(where) == 'string' and where or nil
end

local function is_waiting(id)
  local where = whereabouts(id)
  if not where then return false end
  local due = string.match(where, '^due (%d+)$')
  if due then return tonumber(due) > now end
  local stream, entry = string.match(where, '^(.*) (%S+)$')
  local found = stream and redis.pcall('XRANGE', stream, entry, entry)
  return found and not found.err and #found > 0
end

local function fields(entry)
  local f = {}
  for i = 1, #entry[2], 2 do f[entry[2][i]] = entry[2][i + 1] end
  return f
end

local woken = {}
local function add(m)
  local queue, priority = m.queue, m.priority
  local stream = stream_of(queue, priority)
  if redis.call('TYPE', stream).ok ~= 'stream' then
    with_group(stream, {'XPENDING', stream, GROUP})
    redis.call('SADD', names, queue)
    ensure(prefix .. 'levels:' .. queue, 'set')
    redis.call('SADD', prefix .. 'levels:' .. queue, priority)
  end
  local entry
  if m.expires then
    local last = string.format('%.0f', m.expires)
    entry = redis.call('XADD', stream, '*', 'q', queue, 'i', m.id, 'b', m.body, 'h', m.headers, 'd', m.deliveries,
      'r', m.redelivered, 'x', last)
    redis.call('ZADD', expiring, last, stream .. ' ' .. entry)
  else
    entry = redis.call('XADD', stream, '*', 'q', queue, 'i', m.id, 'b', m.body, 'h', m.headers, 'd', m.deliveries,
      'r', m.redelivered)
  end
  place(m.id, stream .. ' ' .. entry, SENT_FOR)
  woken[queue] = true
end

local function put_off(due, m)
  local packed = cmsgpack.pack({m.queue, m.id, m.body, m.headers, m.priority, m.deliveries, m.redelivered, m.expires})
  redis.call('ZADD', delayed, due, packed)
  place(m.id, string.format('due %.0f', due), due - now + SENT_FOR)
end

local function unpacked(packed)
  local ok, m = pcall(cmsgpack.unpack, packed)
  if not ok or type(m) ~= 'table' then return nil end
  for i = 1, 4 do if type(m[i]) ~= 'string' then return nil end end
  return {queue = m[1], id = m[2], body = m[3], headers = m[4], priority = tonumber(m[5]) or 0,
    deliveries = tonumber(m[6]) or 0, redelivered = tonumber(m[7]) or 0, expires = tonumber(m[8])}
end

-- leases -----------------------------------------------------------------------------------------------------------

local is_registered = redis.call('ZSCORE', holders, me) ~= false
local lost = 0
if known == 1 and not is_registered then
  lost, limit = 1, 0
elseif lease > 0 then
  redis.call('ZADD', holders, now + lease, me)
elseif not is_registered then
  limit = 0
end

local function bury(dead)
  for _, stream in ipairs(redis.call('SMEMBERS', streams)) do
    repeat
      local held = redis.pcall('XPENDING', stream, GROUP, '-', '+', 1000, dead)
      if not held.err then
        for _, entry in ipairs(held) do redis.call('XCLAIM', stream, GROUP, FREE, 0, entry[1], 'JUSTID') end
      end
    until held.err or #held < 1000
    redis.pcall('XGROUP', 'DELCONSUMER', stream, GROUP, dead)
  end
  redis.call('ZREM', holders, dead)
end

-- Not myself: I may be late, but I am about to claim.
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', holders, '-inf', '(' .. string.format('%.0f', now))) do
  if dead ~= me then bury(dead) end
end

-- settlements ------------------------------------------------------------------------------------------------------

local queues = {}
for _ = 1, number() do queues[#queues + 1] = take() end

local function held_by_me(stream, entry, count)
  local found = redis.pcall('XPENDING', stream, GROUP, entry, entry, 1)
  return not found.err and found[1] ~= nil and found[1][2] == me and found[1][4] == count
end

local function done_by_me(entry, count) return 'done ' .. me .. '/' .. entry .. '/' .. count end

local function drop(stream, entry, count, id)
  place(id, done_by_me(entry, count), REMEMBERED_FOR)
  redis.call('XACK', stream, GROUP, entry)
  redis.call('XDEL', stream, entry)
end

-- Whether an earlier try was carried out although its answer was lost. Messages without an id leave no trace; of theirs
-- it is so when the holder never lost its lease, for then nobody else could have taken the delivery from it.
local function was_made(entry, count, id)
  if id == '' then return is_registered and lost == 0 end
  return whereabouts(id) == done_by_me(entry, count)
end

local function release(stream, entry, count, id, delay)
  if delay == 0 then
    redis.call('XCLAIM', stream, GROUP, FREE, 0, entry, 'RETRYCOUNT', math.max(count - 1, 0), 'JUSTID')
    return
  end
  local found = redis.call('XRANGE', stream, entry, entry)[1]
  drop(stream, entry, count, id)
  if found then
    local f = fields(found)
    local queue, priority = string.match(string.sub(stream, #prefix + 1), '^queue:(.*):(%d+)$')
    put_off(now + delay, {
      queue = queue, id = f.i or '', body = f.b or '', headers = f.h or '{}', priority = priority,
      deliveries = (tonumber(f.d) or 0) + math.max(count - 1, 0), redelivered = 1, expires = tonumber(f.x),
    })
  end
end

local function send(m, tried)
  if (tried == 1 and whereabouts(m.id)) or is_waiting(m.id) then return end
  local due = now + m.delay
  if m.lasts >= 0 then m.expires = due + m.lasts end
  if m.delay > 0 then put_off(due, m) else add(m) end
end

local accepted = {}
for index = 1, number() do
  local kind, stream, entry, count, id, delay, tried = take(), take(), take(), number(), take(), number(), number()
  local messages = {}
  for m = 1, number() do
    messages[m] = {queue = take(), id = take(), body = take(), headers = take(), delay = number(), priority = take(),
      lasts = number(), deliveries = 0, redelivered = 0}
  end
  local ok = kind == 'send' or held_by_me(stream, entry, count)
  if ok and kind == 'release' then
    release(stream, entry, count, id, delay)
  elseif ok then
    for _, m in ipairs(messages) do
      if kind == 'send' or m.id ~= id then send(m, tried) end
    end
    if kind == 'ack' then drop(stream, entry, count, id) end
    for _, m in ipairs(messages) do
      if kind == 'ack' and m.id == id then send(m, 0) end -- it follows itself
    end
  elseif tried == 1 and was_made(entry, count, id) then
    ok = true
  end
  accepted[index] = ok and 1 or 0
end

-- what has become due ----------------------------------------------------------------------------------------------

for _, packed in ipairs(redis.call('ZRANGEBYSCORE', delayed, '-inf', string.format('%.0f', now), 'LIMIT', 0, 1000)) do
  local m = unpacked(packed)
  if m then
    add(m)
  else
    ensure(prefix .. 'aside', 'stream')
    redis.call('XADD', prefix .. 'aside', 'MAXLEN', '~', 10000, '*', 'reason', 'no message: found in ' .. delayed,
      'body', packed)
    aside[#aside + 1] = 'what stood in ' .. delayed .. ' was no message; it is now in ' .. prefix .. 'aside'
  end
  redis.call('ZREM', delayed, packed)
end

-- claims -----------------------------------------------------------------------------------------------------------

local deliveries = {}
local function deliver(queue, stream, entries, counts)
  for _, entry in ipairs(entries) do
    if entry[2] then
      local f = fields(entry)
      local count = counts and counts[entry[1]] or 1
      local again = (counts or f.r == '1') and 1 or 0
      local expires = tonumber(f.x)
      local is_late = expires and expires <= now and 1 or 0
      local found = {queue, stream, entry[1], count, count + (tonumber(f.d) or 0), again, is_late}
      for _, part in ipairs(entry[2]) do found[#found + 1] = part end
      deliveries[#deliveries + 1] = found
    end
  end
end

local function claim(queue, priority)
  local stream = stream_of(queue, priority)
  local free = with_group(stream, {'XPENDING', stream, GROUP, '-', '+', limit - #deliveries, FREE})
  if #free > 0 then
    local ids, counts = {}, {}
    for i, entry in ipairs(free) do
      ids[i] = entry[1]
      counts[entry[1]] = entry[4] + 1
    end
    deliver(queue, stream, redis.call('XCLAIM', stream, GROUP, me, 0, unpack(ids)), counts)
  end
  if #deliveries < limit then
    local read = redis.call('XREADGROUP', 'GROUP', GROUP, me, 'COUNT', limit - #deliveries, 'STREAMS', stream, '>')
    if read then deliver(queue, stream, read[1][2], nil) end
  end
end

if limit > 0 then
  local levels = {}
  for _, queue in ipairs(queues) do
    ensure(prefix .. 'levels:' .. queue, 'set')
    levels[queue] = {['0'] = true}
    for _, level in ipairs(redis.call('SMEMBERS', prefix .. 'levels:' .. queue)) do levels[queue][level] = true end
  end
  for priority = 9, 0, -1 do
    for _, queue in ipairs(queues) do
      if #deliveries < limit and levels[queue][tostring(priority)] then claim(queue, tostring(priority)) end
    end
  end
end

-- A queue of mine that I emptied needs nobody else.
if #deliveries < limit then
  for _, queue in ipairs(queues) do woken[queue] = nil end
end
for queue in pairs(woken) do redis.call('PUBLISH', prefix .. 'wake', queue) end
local due = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
local late = redis.call('ZCOUNT', expiring, '-inf', string.format('%.0f', now))
ensure(prefix .. 'mark', 'string')
return {lost, accepted, deliveries, due[2] and math.max(0, tonumber(due[2]) - now) or -1, late,
  redis.call('GET', prefix .. 'mark') or '', aside}
