-- How many messages wait in a queue, those not due yet included. ARGV: prefix, queue.
local prefix, queue = ARGV[1], ARGV[2]
local waiting = 0
for priority = 0, 9 do
  local stream = prefix .. 'queue:' .. queue .. ':' .. priority
  local length, pending = redis.pcall('XLEN', stream), redis.pcall('XPENDING', stream, 'workers')
  if type(length) == 'number' then waiting = waiting + length end
  if not pending.err then
    waiting = waiting - pending[1]
    for _, consumer in ipairs(pending[4] or {}) do
      if consumer[1] == '@free' then waiting = waiting + tonumber(consumer[2]) end
    end
  end
end
local delayed = redis.pcall('ZRANGE', prefix .. 'delayed', 0, -1)
for _, packed in ipairs(delayed.err and {} or delayed) do
  local ok, message = pcall(cmsgpack.unpack, packed)
  if ok and type(message) == 'table' and message[1] == queue then waiting = waiting + 1 end
end
return waiting
