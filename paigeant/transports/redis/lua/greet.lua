-- Note since when this server judges the leases: after a restart, or when another server takes over, the living first
-- get the time of one lease to renew theirs. ARGV: prefix, now, the server's run id.
local run = take()
local server = prefix .. 'server'
is_without_room()
ensure(server, 'hash')
local before = redis.call('HGET', server, 'run')
if before ~= run then redis.call('HSET', server, 'run', run, 'since', before and numeral(now) or 0) end
return 1
