-- One exchange of a holder with its queues: settle, make due, free what the dead held, claim. Atomic, in one trip.
--
-- A holder is a consumer of the group. The delivery count of the group is the count of deliveries; a claim by another
-- consumer raises it, so (holder, count) is the fencing token. Only a holder that is registered may claim: what a holder
-- has that is not registered, nobody would ever free.
--
-- Redis undoes nothing when a script fails, so nothing may fail after the first write. What was written by somebody
-- else, and could make a command fail, is set aside first. A full Redis refuses what publishes more than it frees, each
-- settlement as a whole, before anything of it is written; everything else passes.
--
-- ARGV: prefix, now, holder, session, number of this exchange, lease in ms, renews (0|1), buries (0|1), known (1:
--       the holder was registered before), limit, number of queues, the queues, number of doubts, the doubts, number of settlements, and
--       for each: kind (send|ack|expire|release), stream, entry, count, token, id, delay in ms, tried (1: it may have
--       been made before), number of messages, and for each of those: queue, id, body, headers, delay in ms, priority, expires after ms (-1: never).
-- Returns: {lost (0|1), {accepted (0|1|2: no room now), ...},
--           {{queue, stream, entry, count, deliveries, redelivered (0|1), expired (0|1), field, value, ...}, ...},
--           ms until the next delayed message of these queues is due, or -1, number of expired messages, mark of this
--           database, {what was set aside, ...}, whether more must be made due or freed (0|1),
--           number of messages that wait as an older release keeps them}
-- or nothing when a later exchange of the session came first.

local me, session, own_number, lease, renews = take(), take(), number(), number(), number() == 1
local buries, known, limit = number() == 1, number() == 1, number()
local queues, doubts = {}, {}
for i = 1, number() do queues[i] = take() end
for i = 1, number() do doubts[i] = take() end

local GROWTH, REMEMBERED_FOR = 4096, 300000
local holders, streams, burying = prefix .. 'holders', prefix .. 'streams', prefix .. 'burying'
local expiring, names = prefix .. 'expiring', prefix .. 'queues'

-- what earlier exchanges of the session have done ------------------------------------------------------------------

-- An exchange whose answer is lost is made again under another number. The key done:SESSION keeps the number of the last
-- exchange, so that one which arrives late does nothing, and the tokens of what was settled as long as that is in doubt.
local memory = prefix .. 'done:' .. session
local made, remembered, last = {}, {}, 0
local memories = redis.pcall('GET', memory)
if type(memories) == 'string' then
  local ok, found = pcall(cmsgpack.unpack, memories)
  if ok and type(found) == 'table' and type(found[1]) == 'number' and type(found[2]) == 'table' then
    last = found[1]
    for _, token in ipairs(found[2]) do made[token] = true end
  end
end
if own_number <= last then return false end

local function remember(token) remembered[#remembered + 1] = token end
for _, token in ipairs(doubts) do
  if made[token] then remember(token) end
end

local is_full = is_without_room()
ensure(holders, 'zset')
ensure(expiring, 'zset')
ensure(streams, 'set')
ensure(names, 'set')
if type(memories) == 'table' then ensure(memory, 'string') end

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

-- publishing -------------------------------------------------------------------------------------------------------

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
    local expires = numeral(m.expires)
    entry = redis.call('XADD', stream, '*', 'q', queue, 'i', m.id, 'b', m.body, 'h', m.headers, 'd', m.deliveries,
      'r', m.redelivered, 'x', expires)
    redis.call('ZADD', expiring, expires, stream .. ' ' .. entry)
  else
    entry = redis.call('XADD', stream, '*', 'q', queue, 'i', m.id, 'b', m.body, 'h', m.headers, 'd', m.deliveries,
      'r', m.redelivered)
  end
  place(m.id, stream .. ' ' .. entry, SENT_FOR)
  woken[queue] = true
end

-- A message with the same id and other bytes is no copy: anybody can compute the id of a message to come, and would
-- take its place. A message that is due and was not moved yet waits as well: those before it in its queue's set are
-- moved first.
local function is_waiting(m)
  local where = whereabouts(m.id)
  if not where then return false end
  local due = tonumber(string.match(where, '^due (%d+)$'))
  if due then
    local first = next_due(m.queue)
    local waits = due > now or (first ~= nil and first <= due) or redis.call('EXISTS', prefix .. 'delayed') == 1
    return waits and has_body(m)
  end
  local stream, entry = string.match(where, '^(.*) (%S+)$')
  local found = stream and redis.pcall('XRANGE', stream, entry, entry)
  return found and not found.err and #found > 0 and (fields(found[1]).b or '') == m.body
end

local function was_sent(s, m) return s.tried and made['sent ' .. m.id] or is_waiting(m) end

local function send(m)
  if is_waiting(m) then return end
  local due = now + m.delay
  if m.lasts >= 0 then m.expires = due + m.lasts end
  if m.delay > 0 then put_off(due, m) else add(m) end
end

local function bytes_of(messages)
  local size = 0
  for _, m in ipairs(messages) do size = size + #m.body + #m.headers + #m.id end
  return size
end

-- leases -----------------------------------------------------------------------------------------------------------

local until_ms = tonumber(redis.call('ZSCORE', holders, me))
if until_ms and until_ms < now then ensure(burying, 'hash') end
local is_registered = until_ms ~= nil and (until_ms >= now or redis.call('HEXISTS', burying, me) == 0)
local lost = 0
if known and not is_registered then
  lost, limit = 1, 0
elseif renews then
  redis.call('ZADD', holders, now + lease, me)
elseif not is_registered then
  limit = 0
end

-- Whose lease ran out. Not myself: I may be late, but I am about to claim. Nobody, as long as this server has not
-- judged for a lease: the living could not renew theirs while it was away.
local function next_dead()
  local late = redis.call('ZRANGEBYSCORE', holders, '-inf', '(' .. numeral(now), 'WITHSCORES', 'LIMIT', 0, 2)
  local dead, ended = late[1], late[2]
  if dead == me then dead, ended = late[3], late[4] end
  if not dead then return nil end
  local since = redis.pcall('HGET', prefix .. 'server', 'since')
  if tonumber(type(since) == 'string' and since or '0') + lease > now then return nil end
  return dead, ended
end

local function free_in(stream, dead)
  repeat
    local held = redis.pcall('XPENDING', stream, GROUP, '-', '+', PAGE, dead)
    if held.err then return true end
    for _, entry in ipairs(held) do
      redis.call('XCLAIM', stream, GROUP, FREE, 0, entry[1], 'JUSTID')
      spend(0)
      woken[queue_of(stream) or ''] = true
    end
    if #held < PAGE then
      redis.pcall('XGROUP', 'DELCONSUMER', stream, GROUP, dead)
      return true
    end
  until is_spent()
  return false
end

-- Free a part of what the dead hold: some streams at a time. How far it came is kept in the hash, with the end of the
-- lease for which it was begun: whoever renews again in between was not dead.
local function bury(dead, ended)
  ensure(burying, 'hash')
  local before, cursor = string.match(redis.call('HGET', burying, dead) or '', '^(%S+) (%d+)$')
  if before ~= ended then cursor = '0' end
  local page = redis.call('SSCAN', streams, cursor, 'COUNT', 50)
  for _, stream in ipairs(page[2]) do
    if not free_in(stream, dead) then
      redis.call('HSET', burying, dead, ended .. ' ' .. cursor)
      return
    end
  end
  spend(0)
  if page[1] == '0' then
    redis.call('ZREM', holders, dead)
    redis.call('HDEL', burying, dead)
  else
    redis.call('HSET', burying, dead, ended .. ' ' .. page[1])
    messages_left = messages_left - #page[2]
  end
end

if buries and limit > 0 then
  local dead, ended = next_dead()
  while dead and not is_spent() do
    bury(dead, ended)
    dead, ended = next_dead()
  end
end

-- settlements ------------------------------------------------------------------------------------------------------

local function held_by_me(stream, entry, count)
  local found = redis.pcall('XPENDING', stream, GROUP, entry, entry, 1)
  return not found.err and found[1] ~= nil and found[1][2] == me and found[1][4] == count
end

local function entry_at(stream, entry)
  local found = redis.pcall('XRANGE', stream, entry, entry)
  return not found.err and found[1] or nil
end

local function is_overdue(stream, entry)
  local found = entry_at(stream, entry)
  local expires = found and tonumber(fields(found).x)
  return expires ~= nil and expires <= now and is_unheld(stream, entry)
end

local function is_mine(s)
  if s.kind == 'send' then return true end
  if s.kind == 'expire' then return is_overdue(s.stream, s.entry) end
  return held_by_me(s.stream, s.entry, s.count)
end

local function is_too_much(s)
  if not is_full or #s.messages == 0 then return false end
  if s.kind == 'send' then
    for _, m in ipairs(s.messages) do
      if not was_sent(s, m) then return true end
    end
    return false
  end
  local found = entry_at(s.stream, s.entry)
  return bytes_of(s.messages) > (found and size_of(found) or 0) + GROWTH
end

local function drop(s)
  redis.call('XACK', s.stream, GROUP, s.entry)
  redis.call('XDEL', s.stream, s.entry)
  if s.kind == 'expire' then redis.call('ZREM', expiring, s.stream .. ' ' .. s.entry) end
  forget(s.id, s.stream .. ' ' .. s.entry)
end

local function release(s)
  local queue, priority = queue_of(s.stream)
  if s.delay == 0 or not queue then
    redis.call('XCLAIM', s.stream, GROUP, FREE, 0, s.entry, 'RETRYCOUNT', math.max(s.count - 1, 0), 'JUSTID')
    woken[queue or ''] = true
    return
  end
  local found = entry_at(s.stream, s.entry)
  drop(s)
  if found then
    local f = fields(found)
    put_off(now + s.delay, {
      queue = queue, id = f.i or '', body = f.b or '', headers = f.h or '{}', priority = priority,
      deliveries = (tonumber(f.d) or 0) + math.max(s.count - 1, 0), redelivered = 1, expires = tonumber(f.x),
    })
  end
end

local function settle(s)
  if s.kind == 'release' then return release(s) end
  for _, m in ipairs(s.messages) do
    if s.kind ~= 'send' then
      if m.id ~= s.id or m.id == '' then send(m) end
    elseif not was_sent(s, m) then
      send(m)
    end
    if s.kind == 'send' and m.id ~= '' then remember('sent ' .. m.id) end
  end
  if s.kind == 'send' then return end
  drop(s)
  for _, m in ipairs(s.messages) do
    if m.id == s.id and m.id ~= '' then send(m) end -- it follows itself
  end
end

local function next_settlement()
  local s = {kind = take(), stream = take(), entry = take(), count = number(), token = take(), id = take(),
    delay = number(), tried = number() == 1, messages = {}}
  for m = 1, number() do
    s.messages[m] = {queue = take(), id = take(), body = take(), headers = take(), delay = number(), priority = take(),
      lasts = number(), deliveries = 0, redelivered = 0}
  end
  return s
end

local accepted = {}
for index = 1, number() do
  local s = next_settlement()
  if s.tried and made[s.token] then
    accepted[index] = 1
  elseif not is_mine(s) then
    accepted[index] = 0
  elseif is_too_much(s) then
    accepted[index] = 2
  else
    settle(s)
    accepted[index] = 1
  end
  if accepted[index] == 1 and s.kind ~= 'send' then remember(s.token) end
end

-- what has become due ----------------------------------------------------------------------------------------------

local function make_due(queue)
  local key = delayed_of(queue)
  local first = next_due(queue)
  while first and first <= now and not is_spent() do
    for _, packed in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', numeral(now), 'LIMIT', 0, PAGE)) do
      local m = unpacked(packed, 2)
      if m then add(m) else set_aside(packed, key) end
      redis.call('ZREM', key, packed)
      spend(#packed)
    end
    first = next_due(queue)
  end
  return first
end

local next_at
for _, queue in ipairs(queues) do
  local first = make_due(queue)
  if first and (not next_at or first < next_at) then next_at = first end
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

-- the answer -------------------------------------------------------------------------------------------------------

if #accepted > 0 or #deliveries > 0 then
  redis.call('SET', memory, cmsgpack.pack({own_number, remembered}), 'PX', REMEMBERED_FOR)
end

-- A queue of mine that I emptied needs nobody else. Older releases listen to one channel for all queues.
if #deliveries < limit then
  for _, queue in ipairs(queues) do woken[queue] = nil end
end
for queue in pairs(woken) do
  redis.call('PUBLISH', prefix .. 'wake:' .. queue, '')
  redis.call('PUBLISH', prefix .. 'wake', queue)
end
local overdue = redis.call('ZCOUNT', expiring, '-inf', numeral(now))
local older = #queues > 0 and redis.pcall('ZCARD', prefix .. 'delayed') or 0
local mark = redis.pcall('GET', prefix .. 'mark')
if type(mark) == 'table' then ensure(prefix .. 'mark', 'string') end
return {lost, accepted, deliveries, next_at and math.max(0, next_at - now) or -1, overdue,
  type(mark) == 'string' and mark or '', aside, is_spent() and 1 or 0, type(older) == 'number' and older or 1}
