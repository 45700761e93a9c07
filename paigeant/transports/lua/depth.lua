-- How many messages wait in a queue, those not due yet included. ARGV: prefix, queue.
local prefix, queue = ARGV[1], ARGV[2]
local waiting = 0
for priority = 0, 9 do
  local stream = prefix .. 'queue:' .. queue .. ':' .. priority
  local pending = redis.pcall('XPENDING', stream, 'workers')
  if not pending.err then
    waiting = waiting + redis.call('XLEN', stream) - pending[1]
    for _, consumer in ipairs(pending[4] or {}) do
      if consumer[1] == '@free' then waiting = waiting + tonumber(consumer[2]) end
    end
  end
end
for _, packed in ipairs(redis.call('ZRANGE', prefix .. 'delayed', 0, -1)) do
  if cmsgpack.unpack(packed)[1] == queue then waiting = waiting + 1 end
end
return waiting
