-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- wrk … -s wrk.lua URL -- ACCEPT [PATHS]: GET the URL, or lines of the file PATHS chosen at random. The last line printed is JSON.

function init(args)
  wrk.headers["Accept"] = args[1]
  local prepared = { wrk.format("GET") }
  if args[2] then
    local count = 0
    for path in io.lines(args[2]) do
      count = count + 1
      prepared[count] = wrk.format("GET", path)
    end
  end
  local count, random = #prepared, math.random
  math.randomseed(os.time())
  request = function() return prepared[random(count)] end
end

function done(summary, latency)
  local failed = summary.errors
  print(string.format('{"requests":%d,"seconds":%.6f,"p50":%.3f,"p99":%.3f,"errors":%d}', summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, failed.connect + failed.read + failed.write + failed.status + failed.timeout))
end
