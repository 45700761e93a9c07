-- Messages that are not due yet: in one sorted set per queue, by the time they are due. A number makes each member
-- unlike any other, so that equal messages stay several; it also keeps those of one moment in the order of sending.

local function put_off(due, m)
  local key = delayed_of(m.queue)
  ensure(key, 'zset')
  redis.call('SADD', prefix .. 'queues', m.queue)
  local own = next_number(prefix .. 'numbers')
  redis.call('ZADD', key, numeral(due), cmsgpack.pack({own, m.queue, m.id, m.body, m.headers, m.priority, m.deliveries,
    m.redelivered, m.expires}))
  local lasts = math.max(0, due - now) + SENT_FOR
  place(m.id, 'due ' .. numeral(due), lasts)
  if m.id ~= '' then redis.call('SET', prefix .. 'body:' .. m.id, redis.sha1hex(m.body), 'PX', lasts) end
end

-- Whether the latest delayed message with this id has these bytes. An older release does not say which it has.
local function has_body(m)
  local digest = redis.pcall('GET', prefix .. 'body:' .. m.id)
  return type(digest) ~= 'string' or digest == redis.sha1hex(m.body)
end

-- FIRST: where the message begins in the packed list; 2 here, 1 in the set that older releases keep.
local function unpacked(packed, first)
  local ok, m = pcall(cmsgpack.unpack, packed)
  if not ok or type(m) ~= 'table' then return nil end
  for i = first, first + 3 do if type(m[i]) ~= 'string' then return nil end end
  return {queue = m[first], id = m[first + 1], body = m[first + 2], headers = m[first + 3],
    priority = tonumber(m[first + 4]) or 0, deliveries = tonumber(m[first + 5]) or 0,
    redelivered = tonumber(m[first + 6]) or 0, expires = tonumber(m[first + 7])}
end

-- When the queue's next delayed message is due, or nil.
local function next_due(queue)
  local found = redis.pcall('ZRANGE', delayed_of(queue), 0, 0, 'WITHSCORES')
  if found.err then
    ensure(delayed_of(queue), 'zset')
    return nil
  end
  return tonumber(found[2])
end
