-- Some messages that expired while they waited, so that they can be dropped or sent to the dead letters by an exchange.
-- Each is shown again a second later if it is still there: it may be held and given back, or its dead letters may lead
-- nowhere for now. ARGV: prefix, now.
-- Returns {{queue, stream, entry, count, deliveries, redelivered, expired, field, value, ...}, ...} as exchange.lua does.
local LOOK_AGAIN = 1000
is_without_room()
local expiring = prefix .. 'expiring'
ensure(expiring, 'zset')
local found = {}

local function look_at(place)
  local stream, entry = string.match(place, '^(.*) (%S+)$')
  local entries = stream and redis.pcall('XRANGE', stream, entry, entry)
  local queue = stream and queue_of(stream)
  if not queue or entries.err or #entries == 0 then
    redis.call('ZREM', expiring, place)
    return spend(0)
  end
  spend(size_of(entries[1]))
  redis.call('ZADD', expiring, numeral(now + LOOK_AGAIN), place)
  if is_unheld(stream, entry) then
    local delivery = {queue, stream, entry, 0, 1, 0, 1}
    for _, part in ipairs(entries[1][2]) do delivery[#delivery + 1] = part end
    found[#found + 1] = delivery
  end
end

for _, place in ipairs(redis.call('ZRANGEBYSCORE', expiring, '-inf', numeral(now), 'LIMIT', 0, MOST)) do
  if not is_spent() then look_at(place) end
end
return found
