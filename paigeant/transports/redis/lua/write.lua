-- Small writes that a full Redis takes, too, because a worker cannot start without them; one after another, atomically.
-- ARGV: prefix, now, and for each command the number of its words and the words. Returns the answers.
local KINDS = {SADD = 'set', SREM = 'set', HSETNX = 'hash', HDEL = 'hash', HGET = 'hash', ZREM = 'zset', GET = 'string', SET = 'string'}
is_without_room()
local answers = {}
while at < #ARGV do
  local command = {}
  for i = 1, number() do command[i] = take() end
  if KINDS[command[1]] then ensure(command[2], KINDS[command[1]]) end
  answers[#answers + 1] = redis.call(unpack(command))
end
return answers
