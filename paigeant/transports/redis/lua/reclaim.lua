-- Free what this holder has claimed of a stream without ever hearing of it, because the answer to its exchange was lost;
-- or, when it resigns, all it has there. What it has lost meanwhile is not touched. From now on an exchange that was sent
-- earlier does nothing.
-- ARGV: prefix, now, holder, session, number of this call, resign (0|1), stream, the entry after which to go on ('-' at
--       first), and the entries it knows of. Returns the entry after which to go on, or '' at the end.
local me, session, own_number, resign, stream, from = take(), take(), number(), number() == 1, take(), take()
is_without_room()
local held = {}
while at < #ARGV do held[take()] = true end

local memory = prefix .. 'done:' .. session
local packed = redis.pcall('GET', memory)
local ok, found = pcall(cmsgpack.unpack, type(packed) == 'string' and packed or '')
local tokens = ok and type(found) == 'table' and type(found[2]) == 'table' and found[2] or {}
ensure(memory, 'string')
redis.call('SET', memory, cmsgpack.pack({own_number, tokens}), 'PX', 300000)

local freed = 0
local function free(entry)
  redis.call('XCLAIM', stream, GROUP, FREE, 0, entry[1], 'RETRYCOUNT', math.max(entry[4] - 1, 0), 'JUSTID')
  freed = freed + 1
end

local pending = redis.pcall('XPENDING', stream, GROUP, from, '+', MOST, me)
if pending.err then return '' end
for _, entry in ipairs(pending) do
  if not held[entry[1]] then free(entry) end
  from = '(' .. entry[1]
end
if freed > 0 then
  local queue = queue_of(stream) or ''
  redis.call('PUBLISH', prefix .. 'wake:' .. queue, '')
  redis.call('PUBLISH', prefix .. 'wake', queue)
end
if #pending == MOST then return from end
if resign then redis.pcall('XGROUP', 'DELCONSUMER', stream, GROUP, me) end
return ''
