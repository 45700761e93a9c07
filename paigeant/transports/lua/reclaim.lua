-- Free what this holder has claimed without ever hearing of it, because the answer to its exchange was lost.
-- What it has lost meanwhile is not touched. ARGV: prefix, holder, and for each delivery it knows of: stream, entry.
-- Returns how many.
local GROUP, FREE = 'workers', '@free'
local prefix, me = ARGV[1], ARGV[2]
local held = {}
for i = 3, #ARGV, 2 do held[ARGV[i] .. ' ' .. ARGV[i + 1]] = true end

local freed = 0
for _, stream in ipairs(redis.call('SMEMBERS', prefix .. 'streams')) do
  local pending = redis.pcall('XPENDING', stream, GROUP, '-', '+', 100000, me)
  if not pending.err then
    for _, entry in ipairs(pending) do
      if not held[stream .. ' ' .. entry[1]] then
        redis.call('XCLAIM', stream, GROUP, FREE, 0, entry[1], 'RETRYCOUNT', math.max(entry[4] - 1, 0), 'JUSTID')
        freed = freed + 1
      end
    end
  end
end
if freed > 0 then redis.call('PUBLISH', prefix .. 'wake', '') end
return freed
