-- Renew a holder's leases, if it still has any. ARGV: prefix, now in ms (0: the server's clock), holder, lease in ms.
local prefix, now, me, lease = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
if now == 0 then
  local clock = redis.call('TIME')
  now = clock[1] * 1000 + math.floor(clock[2] / 1000)
end
return redis.call('ZADD', prefix .. 'holders', 'XX', 'CH', now + lease, me)
