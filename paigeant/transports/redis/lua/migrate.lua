-- Move some of the delayed messages that an older release keeps in one sorted set to the sets of their queues.
-- ARGV: prefix, now. Returns whether more are there (0|1), and what was set aside.
is_without_room()
local older = prefix .. 'delayed'
ensure(older, 'zset')
ensure(prefix .. 'queues', 'set')
repeat
  local page = redis.call('ZRANGE', older, 0, PAGE - 1, 'WITHSCORES')
  for i = 1, #page, 2 do
    local m = unpacked(page[i], 1)
    if m then put_off(tonumber(page[i + 1]), m) else set_aside(page[i], older) end
    redis.call('ZREM', older, page[i])
    spend(#page[i])
  end
until #page == 0 or is_spent()
return {redis.call('EXISTS', older), aside}
