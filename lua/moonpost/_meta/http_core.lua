---@meta moonpost.http_core
-- The C module behind moonpost.http: libcurl on a worker's loop (csrc/http). For who works on the house.

---@class moonpost.http_core
local http_core = {}

--- Requests of one worker. It is held by requests on their way.
---@param watch_api userdata core.watch_api
---@param worker moonpost.core.worker
---@return moonpost.http_core.pool? pool nil for a virtual worker
---@return string? why
function http_core.new(watch_api, worker) end

---@class moonpost.http_core.options everything is checked before
---@field method string
---@field url string
---@field agent string
---@field headers? string[] "Name: value"
---@field body? string
---@field timeout number
---@field connect_timeout number
---@field max_size number
---@field redirects number
---@field insecure? boolean
---@field ca_file? string
---@field resolve? string[] CURLOPT_RESOLVE
---@field connect_to? string[] CURLOPT_CONNECT_TO

---@class moonpost.http_core.pool
local pool = {}
--- done(status, head, body), or done(nil, kind, why); once, on a later turn.
---@param options moonpost.http_core.options
---@param done fun(status: integer?, head_or_kind: string, body_or_why: string)
---@return moonpost.http_core.transfer? transfer
---@return string? why
function pool:request(options, done) end

---@class moonpost.http_core.transfer
local transfer = {}
--- `done` is not called any more.
function transfer:cancel() end

return http_core
