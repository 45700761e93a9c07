-- Delete a queue that was purged, with what is held. ARGV: prefix, now, queue.
local queue = take()
is_without_room()
for priority = 0, 9 do
  redis.call('UNLINK', stream_of(queue, priority))
  redis.pcall('SREM', prefix .. 'streams', stream_of(queue, priority))
end
redis.call('UNLINK', delayed_of(queue), prefix .. 'levels:' .. queue)
redis.pcall('SREM', prefix .. 'queues', queue)
return 1
