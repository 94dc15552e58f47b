---@meta
--- What exists once in a process, as moonpost.core has it: serving threads, and tables that they share.

---@class moonpost.core.threads
local threads = {}
--- Makes a generation in every thread, beside those that are there: a Lua state in which moonpost.generation loads `text`. It meets nobody.
--- When it fails in one thread, retire it in the others.
---@param text string at most 1 MiB
---@param bindings moonpost.core.binding[]
---@param done fun(why?: string)
---@return integer id
function threads:load(text, bindings, done) end
--- New connections meet this generation too, until others are retired.
---@param id integer
---@param done fun(why?: string)
function threads:serve(id, done) end
--- New connections do not meet it any more; its states are closed when their last sessions are over, at most `grace` seconds later. Again: hurries.
---@param id integer
---@param grace number
---@param done? fun() nobody meets it any more
function threads:retire(id, grace, done) end
--- Retires all generations and ends the threads; done() when all have ended. Again: hurries.
---@param grace number
---@param done? fun()
function threads:stop(grace, done) end
--- fn("retired", thread, id): a generation's state was closed; "starved": it is over its memory ceiling and stays so; "stalled": a call in Lua has not
--- returned for `seconds`, in the hook `text`; "tells": core.tell(text); "alive": a ping came back.
---@param fn fun(what: "retired"|"starved"|"stalled"|"tells"|"alive", thread: integer, id: integer, seconds: number, text?: string)
function threads:events(fn) end
--- Each thread whose loop turns is told of as "alive".
function threads:ping() end

--- Shared tables by name (csrc/conn/shared.h). `now` is the caller's monotonic clock; keys and values have ceilings, past which the result is
--- nil and why.
---@class moonpost.core.tables
local tables = {}
---@param name string
---@param memory? integer octets
---@param entries? integer
---@return moonpost.core.shared
function tables:open(name, memory, entries) end

---@class moonpost.core.shared
local shared = {}
---@return string|number|boolean|nil
function shared:get(now, key) end
---@return boolean? ok
---@return string? why
function shared:set(now, key, value, ttl) end
---@return boolean written
function shared:add(now, key, value, ttl) end
---@return number sum
function shared:incr(now, key, by, ttl) end
---@return boolean allowed
---@return number wait
function shared:rate(now, key, count, seconds, cost) end
---@return boolean deleted
function shared:delete(now, key) end
---@return integer
function shared:count(now) end
function shared:clear() end
