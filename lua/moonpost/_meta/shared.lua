---@meta moonpost.shared

--- A table that all workers of a process, and all generations of a policy, read and write. Bounded: at its ceiling the
--- entry that was written longest ago is forgotten.
---@class moonpost.Shared
local Shared = {}

---@param key string
---@return string|number|boolean|nil value
function Shared:get(key) end

--- Writes; nil deletes.
---@param key string
---@param value string|number|boolean|nil
---@param ttl? moonpost.Duration how long it lives; until it is forgotten when left out
function Shared:set(key, value, ttl) end

--- Writes unless there is a value already.
---@param key string
---@param value string|number|boolean
---@param ttl? moonpost.Duration
---@return boolean written
function Shared:add(key, value, ttl) end

--- Adds to a number; what is missing counts as 0 and lives for `ttl` from then on, however often it is added to.
---@param key string
---@param by? number 1
---@param ttl? moonpost.Duration
---@return number sum
function Shared:incr(key, by, ttl) end

---@param key string
---@return boolean deleted there was one
function Shared:delete(key) end

--- Takes from the bucket of `key`: it holds what the rate says and refills evenly, so that "10/h" gives ten at once and
--- then one every six minutes.
---@param key string
---@param rate string "10/h"
---@param cost? integer 1
---@return boolean allowed
---@return number wait seconds until it would be; 0 when it is
function Shared:rate(key, rate, cost) end

--- How many entries there are. Looks at every one.
---@return integer
function Shared:count() end

--- Forgets everything.
function Shared:clear() end

return Shared
