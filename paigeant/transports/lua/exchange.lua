-- One exchange of a holder with its queues: settle, make due, free what the dead held, claim. Atomic, in one trip.
--
-- A queue is a stream per priority with one consumer group. A holder is a consumer of the group; what nobody holds any
-- more but was handed out before belongs to the consumer '@free'. The delivery count of the group is the count of
-- deliveries; a claim by another consumer raises it, so (holder, count) is the fencing token.
--
-- ARGV: prefix, holder, lease in ms (0: keep the lease as it is), known (1: the holder was registered before), limit,
--       number of queues, the queues, number of settlements, and for each: kind (send|ack|release), stream, entry, count, delay in ms, tried (0|1),
--       number of messages, and for each of those: queue, id, body, headers, delay in ms, priority.
-- Returns: {lost (0|1), {accepted (0|1), ...}, {{queue, stream, entry, count, deliveries, id, body, headers}, ...},
--           ms until the next delayed message is due, or -1}

-- The key sent:ID says where a message with that id is: "stream entry", or "due" and when. It lasts a while after the
-- message is gone, so that a send whose answer was lost is not made twice; it holds up nobody else who sends the id.
local GROUP, FREE, SENT_FOR, REMEMBERED_FOR = 'workers', '@free', 7 * 86400000, 60000
local at = 0
local function take() at = at + 1; return ARGV[at] end
local function number() return tonumber(take()) end

local prefix, me, lease, known, limit = take(), take(), number(), number(), number()
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local holders, delayed, streams = prefix .. 'holders', prefix .. 'delayed', prefix .. 'streams'

local function stream_of(queue, priority) return prefix .. 'queue:' .. queue .. ':' .. priority end

local function with_group(stream, command)
  local reply = redis.pcall(unpack(command))
  if type(reply) == 'table' and reply.err and string.find(reply.err, 'NOGROUP') then
    redis.call('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM')
    redis.call('SADD', streams, stream)
    reply = redis.call(unpack(command))
  end
  if type(reply) == 'table' and reply.err then error(reply.err) end
  return reply
end

local function place(id, where, lasts)
  if id ~= '' then redis.call('SET', prefix .. 'sent:' .. id, where, 'PX', lasts) end
end

local function is_waiting(id)
  local where = redis.call('GET', prefix .. 'sent:' .. id)
  if not where then return false end
  local due = string.match(where, '^due (%d+)$')
  if due then return tonumber(due) > now end
  local stream, entry = string.match(where, '^(.*) (%S+)$')
  local found = stream and redis.pcall('XRANGE', stream, entry, entry)
  return found and not found.err and #found > 0
end

local woken = {}
local function add(queue, id, body, headers, priority, deliveries)
  local stream = stream_of(queue, priority)
  if redis.call('EXISTS', stream) == 0 then
    with_group(stream, {'XPENDING', stream, GROUP})
    redis.call('SADD', prefix .. 'queues', queue)
    redis.call('SADD', prefix .. 'levels:' .. queue, priority)
  end
  local entry = redis.call('XADD', stream, '*', 'q', queue, 'i', id, 'b', body, 'h', headers, 'd', deliveries)
  place(id, stream .. ' ' .. entry, SENT_FOR)
  woken[queue] = true
end

local function put_off(due, queue, id, body, headers, priority, deliveries)
  redis.call('ZADD', delayed, due, cmsgpack.pack({queue, id, body, headers, priority, deliveries}))
  place(id, string.format('due %.0f', due), due - now + SENT_FOR)
end

-- leases -----------------------------------------------------------------------------------------------------------

local lost = 0
if lease > 0 then
  if known == 1 and redis.call('ZSCORE', holders, me) == false then
    lost, limit = 1, 0
  else
    redis.call('ZADD', holders, now + lease, me)
  end
end

for _, dead in ipairs(redis.call('ZRANGEBYSCORE', holders, '-inf', '(' .. now)) do
  for _, stream in ipairs(redis.call('SMEMBERS', streams)) do
    local held = redis.pcall('XPENDING', stream, GROUP, '-', '+', 100000, dead)
    if not held.err then
      for _, entry in ipairs(held) do
        redis.call('XCLAIM', stream, GROUP, FREE, 0, entry[1], 'JUSTID')
      end
      redis.pcall('XGROUP', 'DELCONSUMER', stream, GROUP, dead)
    end
  end
  redis.call('ZREM', holders, dead)
end

-- settlements ------------------------------------------------------------------------------------------------------

local queues = {}
for _ = 1, number() do queues[#queues + 1] = take() end

local function held_by_me(stream, entry, count)
  local found = redis.pcall('XPENDING', stream, GROUP, entry, entry, 1)
  return not found.err and found[1] ~= nil and found[1][2] == me and found[1][4] == count
end

local function drop(stream, entry)
  local found = redis.call('XRANGE', stream, entry, entry)[1]
  for i = 1, found and #found[2] or 0, 2 do
    if found[2][i] == 'i' and found[2][i + 1] ~= '' then
      redis.call('PEXPIRE', prefix .. 'sent:' .. found[2][i + 1], REMEMBERED_FOR)
    end
  end
  redis.call('XACK', stream, GROUP, entry)
  redis.call('XDEL', stream, entry)
end

local function release(stream, entry, count, delay)
  if delay == 0 then
    redis.call('XCLAIM', stream, GROUP, FREE, 0, entry, 'RETRYCOUNT', math.max(count - 1, 0), 'JUSTID')
    return
  end
  local found = redis.call('XRANGE', stream, entry, entry)[1]
  if found then
    local f = {}
    for i = 1, #found[2], 2 do f[found[2][i]] = found[2][i + 1] end
    local priority = string.match(stream, ':(%d+)$')
    drop(stream, entry)
    put_off(now + delay, f.q, f.i, f.b, f.h, priority, tonumber(f.d) + count - 1)
  else
    drop(stream, entry)
  end
end

local accepted = {}
for index = 1, number() do
  local kind, stream, entry, count, delay, tried = take(), take(), take(), number(), number(), number()
  local messages = {}
  local all_sent = true
  for m = 1, number() do
    local queue, id, body, headers, wait, priority = take(), take(), take(), take(), number(), take()
    messages[m] = {queue, id, body, headers, wait, priority}
    if id == '' or redis.call('EXISTS', prefix .. 'sent:' .. id) == 0 then all_sent = false end
  end
  local ok = kind == 'send' or held_by_me(stream, entry, count)
  if ok and kind == 'release' then
    release(stream, entry, count, delay)
  elseif ok then
    if kind == 'ack' then drop(stream, entry) end
    for _, m in ipairs(messages) do
      local known_before = tried == 1 and m[2] ~= '' and redis.call('EXISTS', prefix .. 'sent:' .. m[2]) == 1
      if not known_before and not is_waiting(m[2]) then
        if m[5] > 0 then put_off(now + m[5], m[1], m[2], m[3], m[4], m[6], 0) else add(m[1], m[2], m[3], m[4], m[6], 0) end
      end
    end
  elseif tried == 1 and #messages > 0 and all_sent then
    ok = true -- the first try was carried out although its answer was lost
  end
  accepted[index] = ok and 1 or 0
end

-- what has become due ----------------------------------------------------------------------------------------------

for _, packed in ipairs(redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, 1000)) do
  local m = cmsgpack.unpack(packed)
  add(m[1], m[2], m[3], m[4], m[5], m[6])
  redis.call('ZREM', delayed, packed)
end

-- claims -----------------------------------------------------------------------------------------------------------

local deliveries = {}
local function deliver(queue, stream, entries, fresh)
  for _, entry in ipairs(entries) do
    if entry[2] then
      local f = {}
      for i = 1, #entry[2], 2 do f[entry[2][i]] = entry[2][i + 1] end
      local count = 1
      if not fresh then count = redis.call('XPENDING', stream, GROUP, entry[1], entry[1], 1)[1][4] end
      deliveries[#deliveries + 1] =
        {queue, stream, entry[1], count, count + tonumber(f.d or '0'), f.i or '', f.b or '', f.h or '{}'}
    end
  end
end

local function claim(queue, priority)
  local stream = stream_of(queue, priority)
  local free = with_group(stream, {'XPENDING', stream, GROUP, '-', '+', limit - #deliveries, FREE})
  if #free > 0 then
    local ids = {}
    for i, entry in ipairs(free) do ids[i] = entry[1] end
    deliver(queue, stream, redis.call('XCLAIM', stream, GROUP, me, 0, unpack(ids)), false)
  end
  if #deliveries < limit then
    local read = redis.call('XREADGROUP', 'GROUP', GROUP, me, 'COUNT', limit - #deliveries, 'STREAMS', stream, '>')
    if read then deliver(queue, stream, read[1][2], true) end
  end
end

if limit > 0 then
  for priority = 9, 0, -1 do
    for _, queue in ipairs(queues) do
      if #deliveries < limit and (priority == 0 or redis.call('SISMEMBER', prefix .. 'levels:' .. queue, priority) == 1)
      then
        claim(queue, tostring(priority))
      end
    end
  end
end

-- A queue of mine that I emptied needs nobody else.
if #deliveries < limit then
  for _, queue in ipairs(queues) do woken[queue] = nil end
end
for queue in pairs(woken) do redis.call('PUBLISH', prefix .. 'wake', queue) end
local due = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
return {lost, accepted, deliveries, due[2] and math.max(0, tonumber(due[2]) - now) or -1}
