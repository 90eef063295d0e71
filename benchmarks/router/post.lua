-- For wrk: chat requests of about 1 KB in 64 variants, plain answers. From the environment:
-- BENCH_MODEL, BENCH_KEY  what clients send
-- BENCH_IMAGE             bytes of base64 in an image_url of each request (0: none)
-- Writes one line, "JSON" and an object with the names that loadgen.c uses.
local model, key = os.getenv("BENCH_MODEL"), os.getenv("BENCH_KEY")
local image = tonumber(os.getenv("BENCH_IMAGE") or "0")
local text = "please look at the following paragraph and tell me what it is about. Lorem ipsum " ..
  "dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore et " ..
  "dolore magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi " ..
  "ut aliquip ex ea commodo consequat. Duis aute irure dolor in reprehenderit in voluptate velit " ..
  "esse cillum dolore eu fugiat nulla pariatur. Excepteur sint occaecat cupidatat non proident, " ..
  "sunt in culpa qui officia deserunt mollit anim id est laborum. Sed ut perspiciatis unde omnis " ..
  "iste natus error sit voluptatem accusantium doloremque laudantium, totam rem aperiam, eaque " ..
  "ipsa quae ab illo inventore veritatis et quasi architecto beatae vitae dicta sunt explicabo."
local pixels = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9Q"
local headers = {
  ["Authorization"] = "Bearer " .. key,
  ["Content-Type"] = "application/json",
  ["Accept"] = "application/json",
}
local requests, number = {}, 0

local function content(k)
  local words = '"' .. string.format("%04d: ", k * 37) .. text .. '"'
  if image == 0 then
    return words
  end
  local url = "data:image/png;base64," .. string.rep(pixels, math.floor(image / #pixels))
  return '[{"type":"text","text":' .. words .. '},' ..
    '{"type":"image_url","image_url":{"url":"' .. url .. '"}}]'
end

function init(args)
  for k = 1, image > 0 and 4 or 64 do
    local body = '{"model":"' .. model .. '","messages":[{"role":"system","content":' ..
      '"You are a helpful assistant. Answer briefly and to the point."},' ..
      '{"role":"user","content":' .. content(k) .. '}],' ..
      '"temperature":0.7,"max_tokens":64,"stream":false,"seed":0}'
    requests[k] = wrk.format("POST", "/v1/chat/completions", headers, body)
  end
end

function request()
  number = number % #requests + 1
  return requests[number]
end

function done(summary, latency, _)
  local seconds, failed = summary.duration / 1e6, summary.errors
  io.write(string.format(
    'JSON{"done":%d,"errors":%d,"not_200":%d,"elapsed_s":%.3f,"rps":%.1f,' ..
      '"whole_ms_p50":%.4f,"whole_ms_p99":%.4f}\n',
    summary.requests, failed.connect + failed.read + failed.write + failed.timeout, failed.status,
    seconds, summary.requests / seconds,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
