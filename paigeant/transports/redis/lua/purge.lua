-- Delete a part of what waits in a queue; what is held by somebody stays. ARGV: prefix, now, queue, priority, the entry
-- after which to go on ('-' at first; priority 10: the messages that are not due yet).
-- Returns how many messages were deleted, and the entry after which to go on, or '' at the end.
local queue, priority, from = take(), number(), take()
is_without_room()
local deleted = 0

local function purge_delayed()
  local key = delayed_of(queue)
  repeat
    local page = redis.pcall('ZRANGE', key, 0, PAGE - 1, 'WITHSCORES')
    if page.err then return '' end
    for i = 1, #page, 2 do
      local m = unpacked(page[i], 2)
      if m then forget(m.id, 'due ' .. numeral(tonumber(page[i + 1]))) end
      deleted = deleted + redis.call('ZREM', key, page[i])
      spend(#page[i])
    end
    if #page == 0 then return '' end
  until is_spent()
  return '-'
end

local function purge_stream(stream)
  repeat
    local page = redis.pcall('XRANGE', stream, from, '+', 'COUNT', PAGE)
    if page.err or #page == 0 then return '' end
    for _, entry in ipairs(page) do
      if is_unheld(stream, entry[1]) ~= false then
        forget(fields(entry).i or '', stream .. ' ' .. entry[1])
        redis.pcall('XACK', stream, GROUP, entry[1])
        redis.call('ZREM', prefix .. 'expiring', stream .. ' ' .. entry[1])
        deleted = deleted + redis.call('XDEL', stream, entry[1])
      end
      from = '(' .. entry[1]
      spend(size_of(entry))
    end
  until is_spent()
  return from
end

ensure(prefix .. 'expiring', 'zset')
local go_on = priority == 10 and purge_delayed() or priority < 10 and purge_stream(stream_of(queue, priority)) or ''
return {deleted, go_on}
