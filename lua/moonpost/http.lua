--- HTTP requests in straight lines: in a task the request waits, on the main coroutine it runs the loop.
---
---     local response, err = http.request { url = "https://api.example.org/v1/users?address=" .. address, timeout = "5s" }
---     if response and response.status == 200 then ... end
local core = require "moonpost.core"
local Error = require "moonpost.error"
local options = require "moonpost.options"
local task = require "moonpost.task"
local trim = require "moonpost.trim"

---@class moonpost.http
local M = {}

local URL_MOST = 16384
local pools = setmetatable({}, { __mode = "k" }) -- by worker
local instead ---@type (fun(request: moonpost.http.Request): table?, any)? who answers in the place of the network

local function check_url(url)
  if #url > URL_MOST then
    return "too long"
  elseif url:find("[%z\1-\32\127]") then
    return "a space or a control character in it"
  elseif not url:find("^%a[%w+.-]*://[^/]") then
    return "a scheme and a host are needed"
  end
end

local function check_method(method)
  return not method:find("^%u[%u-]*$") and "upper case letters expected" or nil
end

local function check_text(value)
  return value:find("[%z\r\n]") and "a line break or NUL in it" or nil
end

local function positive(value)
  return value <= 0 and "more than nothing is needed" or value > 86400 and "a day at most" or nil
end

M.schema = {
  { name = "url", type = "string", null = true, check = check_url },
  { name = "method", type = "string", null = true, check = check_method },
  { name = "headers", type = "table", default = {} },
  { name = "body", type = "string", null = true },
  { name = "timeout", type = "duration", default = "30s", check = positive },
  { name = "connect_timeout", type = "duration", default = "10s", check = positive },
  { name = "max_size", type = "size", default = "1 MiB", check = function(value)
    return value > 2 ^ 30 and "1 GiB at most" or nil
  end },
  { name = "follow", type = "any", default = false, check = function(value)
    local number = type(value) == "number" and math.tointeger(value)
    return type(value) ~= "boolean" and not (number and number >= 0 and number <= 50)
        and "true, false or a number up to 50 expected" or nil
  end },
  { name = "insecure", type = "boolean", default = false },
  { name = "ca_file", type = "string", null = true, check = check_text },
  { name = "addresses", type = "strings", null = true },
  { name = "connect_to", type = "string", null = true, check = check_text },
}

-- "Name: value" of each; or nil and why.
local function header_lines(headers, body)
  local lines, seen = {}, {}
  for name, values in pairs(headers) do
    if math.type(name) then
      return nil, 'headers: { Name = "value" } expected, no list'
    elseif type(name) ~= "string" or not name:find("^[%w!#$%%&'*+.^_`|~-]+$") then
      return nil, ("headers: %q is no name of a header"):format(tostring(name))
    end
    seen[name:lower()] = true
    for _, value in ipairs(type(values) == "table" and values or { values }) do
      value = type(value) == "number" and tostring(value) or value
      if type(value) ~= "string" or check_text(value) then
        return nil, ("headers: a line of text expected for %s"):format(name)
      end
      -- libcurl's way of saying that a header is there and empty
      lines[#lines + 1] = value:find("%S") and name .. ": " .. value or name .. ";"
    end
  end
  -- What libcurl would add by itself: a form's type, and a question before a large body that costs a round trip.
  if body and not seen["content-type"] then
    lines[#lines + 1] = "Content-Type:"
  end
  if body and not seen.expect then
    lines[#lines + 1] = "Expect:"
  end
  return lines
end

local function bracketed(address)
  return address:find(":", 1, true) and "[" .. address .. "]" or address
end

-- Of the URL's host alone; redirections elsewhere are resolved as ever.
local function resolve_lines(url, addresses)
  local scheme, authority = url:match("^(%a[%w+.-]*)://([^/?#]*)")
  authority = authority:gsub("^.*@", "")
  local host, port = authority:match("^(%[[^%]]*%]):?(%d*)$")
  if not host then
    host, port = authority:match("^([^:]*):?(%d*)$")
  end
  if not host then
    return nil, "url: the host is malformed"
  end
  port = port ~= "" and port or scheme:lower() == "http" and "80" or "443"
  local list = {}
  for i, address in ipairs(addresses) do
    if core.in_network(address, address:find(":", 1, true) and "::/0" or "0.0.0.0/0") == nil then
      return nil, ("addresses: %q is no address"):format(address)
    end
    list[i] = bracketed(address)
  end
  return { ("+%s:%s:%s"):format(host, port, table.concat(list, ",")) }
end

-- What C takes; or nil and why.
local function prepare(given)
  local values, why = options.resolve(M.schema, given, "given")
  if not values then
    return nil, why
  elseif not values.url then
    return nil, "url: one is needed"
  elseif not values.insecure and not values.url:lower():find("^https://") then
    return nil, "url: https:// is needed, unless `insecure` is set"
  elseif values.insecure and not values.url:lower():find("^https?://") then
    return nil, "url: https:// or http:// is needed"
  end
  values.method = values.method or values.body and "POST" or "GET"
  if not values.body and (values.method == "POST" or values.method == "PUT" or values.method == "PATCH") then
    values.body = ""
  end
  if values.max_size < 1 then
    return nil, "max_size: more than nothing is needed"
  end
  values.headers, why = header_lines(values.headers, values.body)
  if not values.headers then
    return nil, why
  end
  if values.addresses and #values.addresses > 0 then
    values.resolve, why = resolve_lines(values.url, values.addresses)
    if not values.resolve then
      return nil, why
    end
  end
  if values.connect_to then
    if not values.connect_to:find("^[^%s]+:%d+$") then
      return nil, 'connect_to: "host:port" expected'
    end
    values.connect_to = { "::" .. values.connect_to }
  end
  values.redirects = values.follow == true and 10 or values.follow or 0
  values.agent = "moonpost/" .. core.VERSION
  return values
end

-- Names in lower case; what comes more than once is joined by commas (RFC 9110 5.3).
local function read_head(text)
  local headers = {}
  for line in text:gmatch("[^\r\n]+") do
    local name, value = line:match("^([^%s:]+):(.*)$")
    if name then
      name, value = name:lower(), trim(value)
      headers[name] = headers[name] and headers[name] .. ", " .. value or value
    end
  end
  return headers
end

local function pool_of(worker)
  local pool, why = pools[worker], nil
  if not pool then -- libcurl is loaded with the first request
    pool, why = require("moonpost.http_core").new(core.watch_api, worker)
    pools[worker] = pool
  end
  return pool, why
end

-- What a function answered, as if it had come from the network.
local function pretended(url, answer, why)
  if type(answer) == "table" then
    local headers = {}
    for name, value in pairs(answer.headers or {}) do
      headers[name:lower()] = value
    end
    return { status = answer.status or 200, headers = headers, body = answer.body or "" }
  elseif answer ~= nil then
    error(("http: a table with status, headers and body expected for %s, got a %s"):format(M.redact(url), type(answer)), 0)
  elseif Error.is(why) then
    return nil, why
  end
  return nil, Error(why or "network", ("%s: %s"):format(M.redact(url), why or "nobody answers"))
end

---@class moonpost.http.Request
---@field url string https://, and with `insecure` http://
---@field method? string "GET", or "POST" where there is a body
---@field headers? table<string, string|string[]>
---@field body? string
---@field timeout? number|string seconds, or "30s": for everything
---@field connect_timeout? number|string seconds, or "10s"
---@field max_size? integer|string of the response's body: "1 MiB"
---@field follow? boolean|integer redirections that are followed: true = 10
---@field insecure? boolean http:// is allowed too; https:// is verified all the same
---@field ca_file? string PEM file of the authorities, instead of the system's
---@field addresses? string[] of the URL's host, instead of the system's resolver
---@field connect_to? string "host:port" that is connected to, whatever the URL says

---@class moonpost.http.Response
---@field status integer
---@field headers table<string, string> names in lower case
---@field body string

--- Makes a request and waits for all of its response, whatever its status. Given up when the task is cancelled.
---@async
---@param given moonpost.http.Request
---@return moonpost.http.Response? response
---@return moonpost.Error? err kind "timeout", "resolve", "connect", "tls", "too_large", "url", "memory", "network" or "http"
function M.request(given)
  if type(given) ~= "table" then
    error("http.request: a table expected", 2)
  end
  local prepared, why = prepare(given)
  if not prepared then
    error("http.request: " .. why, 2)
  end
  if instead then
    return pretended(given.url, instead(given))
  end
  local pool
  pool, why = pool_of(task.worker())
  if not pool then
    return nil, Error("network", "http: " .. why)
  end
  local status, head, body = task.park(function(wake)
    local transfer, reason = pool:request(prepared, wake)
    if not transfer then
      return wake(nil, "http", reason)
    end
    return function()
      transfer:cancel()
    end
  end, "an HTTP response")
  if not status then
    -- libcurl may quote what a server sent
    return nil, Error(head, ("%s: %s"):format(M.redact(prepared.url), (body:gsub("%c", "?"))))
  end
  return { status = status, headers = read_head(head), body = body }
end

--- Lets a function answer in the place of the network, for tests. It is given the request, may wait, and returns a table with `status` (200),
--- `headers` and `body`, or nil and the kind of error.
---@param fn? fun(request: moonpost.http.Request): table?, any nil: the network
---@return (fun(request: moonpost.http.Request): table?, any)? former
function M.use(fn)
  if fn ~= nil and type(fn) ~= "function" then
    error("http.use: a function expected", 2)
  end
  local former = instead
  instead = fn
  return former
end

--- A URL as it may be shown: no credentials, no query, which may hold a key.
---@param url string
---@return string
function M.redact(url)
  return (url:gsub("^(%a[%w+.-]*://)[^/?#]*@", "%1***@"):gsub("%?.*$", "?..."):gsub("#.*$", ""))
end

return M
