-- Renew a holder's leases, if it still has any. ARGV: prefix, now, holder, lease in ms.
local me, lease = take(), number()
is_without_room()
local ended = tonumber(redis.call('ZSCORE', prefix .. 'holders', me))
if ended and ended < now and redis.call('HEXISTS', prefix .. 'burying', me) == 1 then return 0 end
return redis.call('ZADD', prefix .. 'holders', 'XX', 'CH', now + lease, me)
