-- Delete what waits in a queue; what is held by somebody stays, unless the queue itself is deleted.
-- ARGV: prefix, queue, delete (0|1). Returns how many messages waited.
local prefix, queue, delete = ARGV[1], ARGV[2], ARGV[3] == '1'
local deleted = 0

local function forget(id)
  if type(id) == 'string' and id ~= '' then redis.call('DEL', prefix .. 'sent:' .. id) end
end

local function held_in(stream)
  local held = {}
  local pending = redis.pcall('XPENDING', stream, 'workers', '-', '+', 1000000)
  for _, entry in ipairs(pending.err and {} or pending) do held[entry[1]] = entry[2] ~= '@free' end
  return held
end

for priority = 0, 9 do
  local stream = prefix .. 'queue:' .. queue .. ':' .. priority
  local entries = redis.pcall('XRANGE', stream, '-', '+')
  local held = entries.err and {} or held_in(stream)
  for _, entry in ipairs(entries.err and {} or entries) do
    if not held[entry[1]] then
      for i = 1, #entry[2], 2 do
        if entry[2][i] == 'i' then forget(entry[2][i + 1]) end
      end
      redis.pcall('XACK', stream, 'workers', entry[1])
      deleted = deleted + redis.call('XDEL', stream, entry[1])
    end
  end
  if delete then
    redis.call('DEL', stream)
    redis.pcall('SREM', prefix .. 'streams', stream)
  end
end

local delayed = redis.pcall('ZRANGE', prefix .. 'delayed', 0, -1)
for _, packed in ipairs(delayed.err and {} or delayed) do
  local ok, message = pcall(cmsgpack.unpack, packed)
  if ok and type(message) == 'table' and message[1] == queue then
    forget(message[2])
    deleted = deleted + redis.call('ZREM', prefix .. 'delayed', packed)
  end
end
if delete then
  redis.call('DEL', prefix .. 'levels:' .. queue)
  redis.pcall('SREM', prefix .. 'queues', queue)
end
return deleted
