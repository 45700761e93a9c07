-- Free what this holder has claimed without ever hearing of it, because the answer to its exchange was lost; or, when it
-- resigns, everything it has. What it has lost meanwhile is not touched.
-- ARGV: prefix, holder, resign (0|1), and for each delivery it knows of: stream, entry. Returns how many.
local GROUP, FREE = 'workers', '@free'
local prefix, me, resign = ARGV[1], ARGV[2], ARGV[3] == '1'
local held = {}
for i = 4, #ARGV, 2 do held[ARGV[i] .. ' ' .. ARGV[i + 1]] = true end

local freed = 0
local streams = redis.pcall('SMEMBERS', prefix .. 'streams')
for _, stream in ipairs(streams.err and {} or streams) do
  local from = '-'
  repeat
    local pending = redis.pcall('XPENDING', stream, GROUP, from, '+', 1000, me)
    for _, entry in ipairs(pending.err and {} or pending) do
      if not held[stream .. ' ' .. entry[1]] then
        redis.call('XCLAIM', stream, GROUP, FREE, 0, entry[1], 'RETRYCOUNT', math.max(entry[4] - 1, 0), 'JUSTID')
        freed = freed + 1
      end
      from = '(' .. entry[1]
    end
  until pending.err or #pending < 1000
  if resign then redis.pcall('XGROUP', 'DELCONSUMER', stream, GROUP, me) end
end
if resign then redis.pcall('ZREM', prefix .. 'holders', me) end
if freed > 0 then redis.call('PUBLISH', prefix .. 'wake', '') end
return freed
