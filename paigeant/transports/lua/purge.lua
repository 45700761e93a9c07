-- Delete what waits in a queue; what is held by somebody stays. ARGV: prefix, queue.
local prefix, queue = ARGV[1], ARGV[2]
local deleted = 0
for priority = 0, 9 do
  local stream = prefix .. 'queue:' .. queue .. ':' .. priority
  local held = {}
  local pending = redis.pcall('XPENDING', stream, 'workers', '-', '+', 1000000)
  if not pending.err then
    for _, entry in ipairs(pending) do held[entry[1]] = entry[2] ~= '@free' end
    for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+')) do
      if not held[entry[1]] then
        for i = 1, #entry[2], 2 do
          if entry[2][i] == 'i' then redis.call('DEL', prefix .. 'sent:' .. entry[2][i + 1]) end
        end
        redis.call('XACK', stream, 'workers', entry[1])
        deleted = deleted + redis.call('XDEL', stream, entry[1])
      end
    end
  end
end
for _, packed in ipairs(redis.call('ZRANGE', prefix .. 'delayed', 0, -1)) do
  local message = cmsgpack.unpack(packed)
  if message[1] == queue then
    redis.call('DEL', prefix .. 'sent:' .. message[2])
    deleted = deleted + redis.call('ZREM', prefix .. 'delayed', packed)
  end
end
return deleted
