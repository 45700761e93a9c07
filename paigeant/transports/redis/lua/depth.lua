-- How many messages wait in a queue, those not due yet included: what Redis counts anyway, so it costs the same however
-- many wait. Writes nothing. ARGV: prefix, now, queue.
local queue = take()
local waiting = 0
for priority = 0, 9 do
  local stream = stream_of(queue, priority)
  local length = redis.pcall('XLEN', stream)
  if type(length) == 'number' and length > 0 then
    waiting = waiting + length
    local pending = redis.pcall('XPENDING', stream, GROUP)
    if not pending.err then
      waiting = waiting - pending[1]
      for _, consumer in ipairs(pending[4] or {}) do
        if consumer[1] == FREE then waiting = waiting + tonumber(consumer[2]) end
      end
    end
  end
end
local delayed = redis.pcall('ZCARD', delayed_of(queue))
return math.max(0, waiting) + (type(delayed) == 'number' and delayed or 0)
