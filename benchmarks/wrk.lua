-- Sends the requests of a list in turn. Arguments: METHOD BODY_BYTES FILE, where FILE has one path
-- with its query on each line, behind a method of its own if that is another. Those with the method PUT have
-- the body. Prints one line of JSON at the end.

local requests = {}
local at = 0

function init(args)
  local method, size, file = args[1], tonumber(args[2]), args[3]
  local body = nil
  if size > 0 then
    body = string.rep("objectio", math.ceil(size / 8)):sub(1, size)
  end
  for line in io.lines(file) do
    local own, path = line:match("^(%u+) (.*)$")
    own = own or method
    requests[#requests + 1] = wrk.format(own, path or line, nil, own == "PUT" and body or nil)
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    'JSON {"requests": %d, "seconds": %.6f, "bytes": %d, "p50_ms": %.3f, "p99_ms": %.3f, ' ..
    '"bad_status": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, summary.bytes,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
