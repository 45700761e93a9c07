-- Claim messages that expired while they waited, so that the holder can drop them or send them to the dead letters.
-- ARGV: prefix, now in ms (0: the server's clock), holder, limit. Returns deliveries as exchange.lua does.
local GROUP, FREE, LOOK_AGAIN = 'workers', '@free', 1000
local prefix, now, me, limit = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
if now == 0 then
  local clock = redis.call('TIME')
  now = clock[1] * 1000 + math.floor(clock[2] / 1000)
end
local expiring = prefix .. 'expiring'
local claimed = {}
if redis.call('ZSCORE', prefix .. 'holders', me) == false then return claimed end

for _, place in ipairs(redis.call('ZRANGEBYSCORE', expiring, '-inf', string.format('%.0f', now), 'LIMIT', 0, limit)) do
  local stream, entry = string.match(place, '^(.*) (%S+)$')
  local found = stream and redis.pcall('XRANGE', stream, entry, entry)
  if not found or found.err or #found == 0 then
    redis.call('ZREM', expiring, place)
  else
    local pending = redis.pcall('XPENDING', stream, GROUP, entry, entry, 1)
    local holder = not pending.err and pending[1]
    if pending.err or (holder and holder[2] ~= FREE) then
      redis.call('ZADD', expiring, string.format('%.0f', now + LOOK_AGAIN), place) -- it may be given back
    else
      redis.call('XCLAIM', stream, GROUP, me, 0, entry, 'RETRYCOUNT', holder and holder[4] or 0, 'FORCE', 'JUSTID')
      local count = holder and holder[4] or 0
      local queue = string.match(string.sub(stream, #prefix + 1), '^queue:(.*):%d+$')
      local delivery = {queue, stream, entry, count, count + 1, 0, 1}
      for _, part in ipairs(found[1][2]) do delivery[#delivery + 1] = part end
      claimed[#claimed + 1] = delivery
    end
  end
end
return claimed
