---@meta moonpost.queue
--- What docs/queueing.md explains.

---@class moonpost.QueueOptions
---@field spool string folder of the spool, which is made when it is missing
---@field name? string in logs; the last part of `spool`
---@field route? "mx"|string|table|fun(delivery: moonpost.queue.Delivery): any where a delivery goes; asked at every attempt, and may wait. "mx" when left out
---@field routes? table<string, fun(delivery: moonpost.queue.Delivery, octets: fun(): string): any> for "lua:name"
---@field site? moonpost.SiteLimits|table<string, moonpost.SiteLimits>|fun(site: { name: string }): moonpost.SiteLimits?
---@field retry? { [integer]: moonpost.Duration, expire?: moonpost.Duration, jitter?: number, warn?: moonpost.Duration|false }
---@field hostname? string that EHLO and reports say; the server's
---@field from? string of reports
---@field postmaster? string who hears of mail without a sender that cannot be delivered
---@field texts? table|function of reports
---@field call_time? moonpost.Duration for a function that takes a delivery; "5m"
---@field dns? moonpost.dns.Resolver

---@class moonpost.SiteLimits
---@field connections? integer at a time; 20
---@field per_connection? integer messages; 100, 0 = no limit
---@field recipients? integer of one transaction; 100
---@field rate? string messages: "1000/h"
---@field connection_rate? string new connections
---@field idle? moonpost.Duration "10s"
---@field pause? moonpost.Duration when nobody there can be spoken to; then longer, up to 60 times that; "30s"
---@field backlog? integer transactions that wait in memory; 200

---@class moonpost.queue.Record one attempt, or the end of a delivery
---@field event "routed"|"delivered"|"relayed"|"deferred"|"bounced"|"expired"
---@field queue string
---@field message string id
---@field sender string
---@field recipient string
---@field domain string
---@field tenant? string
---@field site? string
---@field via? string what `route` said
---@field host? string
---@field ip? string
---@field tls? table
---@field stage? string as of moonpost.SendRow
---@field reply? moonpost.Reply none of "routed"
---@field own? boolean the reply is ours
---@field attempts integer
---@field due number
---@field expires number
---@field time number
---@field age number seconds since the message came
---@field seconds? number from when its turn came on, with the wait for a connection
---@field times? moonpost.StageTimes

---@class moonpost.QueueHooks
---@field routed? fun(record: moonpost.queue.Record)
---@field delivered? fun(record: moonpost.queue.Record)
---@field relayed? fun(record: moonpost.queue.Record)
---@field deferred? fun(record: moonpost.queue.Record)
---@field bounced? fun(record: moonpost.queue.Record)
---@field expired? fun(record: moonpost.queue.Record)

---@class moonpost.QueueFilter an address is whole, or "*@example.net"
---@field id? string
---@field sender? string
---@field recipient? string
---@field domain? string
---@field site? string
---@field tenant? string
---@field reply? string a part of the last one
---@field held? boolean
---@field older? string|number a duration
---@field younger? string|number
---@field most? integer

---@class moonpost.queue.Row one delivery
---@field id string of its message
---@field number integer
---@field sender string
---@field recipient string
---@field domain string
---@field tenant? string
---@field site? string
---@field size integer octets
---@field received number
---@field age number seconds
---@field due number
---@field expires number
---@field attempts integer
---@field reply? string the last one
---@field held boolean
---@field state "busy"|"held"|"due"|"waiting"

---@class moonpost.queue.Changed
---@field changed integer
---@field busy integer on their way, and left as they are by a bounce

---@class moonpost.Queue
---@field name string
---@field on moonpost.QueueHooks
local Queue = {}

--- Keeps a message that a script has composed. It is on disk when this returns.
---@async
---@param options table as of moonpost.send; and tenant, priority, meta
---@return string? id
---@return moonpost.Error? err
function Queue:send(options) end

--- Opens the spool and begins to deliver, which a server does by itself. Once is enough. Of several workers each delivers to sites of its own.
---@param worker? moonpost.core.worker
---@param hostname? string where the queue has none of its own
---@return boolean? ok
---@return moonpost.Error? err kind "spool"
function Queue:start(worker, hostname) end

--- Claims nothing more and waits until what is on its way is over. What is left stays in the spool.
---@async
---@param grace? moonpost.Duration how long that may take; as long as it takes when left out
function Queue:stop(grace) end

--- Deliveries, oldest message first.
---@async
---@param which? moonpost.QueueFilter
---@return moonpost.queue.Row[]? rows
---@return moonpost.Error? err
function Queue:list(which) end

--- Looks at the whole spool. What is damaged is set aside, and the rest goes on.
---@async
---@return integer? aside messages that were set aside
---@return moonpost.Error? err
function Queue:check() end

--- Calls `fn(row)` for deliveries, oldest message first, as they are read: of a large queue nothing is kept.
---@async
---@param which moonpost.QueueFilter|string
---@param fn fun(row: moonpost.queue.Row)
---@return boolean? ok
---@return moonpost.Error? err
function Queue:each(which, fn) end

--- The deliveries of one message; none when there is no such message.
---@async
---@param id string
---@return moonpost.queue.Row[]? rows
---@return moonpost.Error? err
function Queue:show(id) end

--- The message itself.
---@async
---@param id string
---@return string? octets
---@return moonpost.Error? err
function Queue:octets(id) end

--- Keeps deliveries from being tried until they are released; those that are on their way when they come back.
---@async
---@param which string|moonpost.QueueFilter
---@return moonpost.queue.Changed? answer
---@return moonpost.Error? err
function Queue:hold(which) end

--- Ends a hold.
---@async
---@param which string|moonpost.QueueFilter
---@return moonpost.queue.Changed? answer
---@return moonpost.Error? err
function Queue:release(which) end

--- Makes deliveries due now, and ends the pause of their sites.
---@async
---@param which string|moonpost.QueueFilter
---@return moonpost.queue.Changed? answer
---@return moonpost.Error? err
function Queue:retry(which) end

--- Sends deliveries to another address, from now on.
---@async
---@param which string|moonpost.QueueFilter
---@param address string
---@return moonpost.queue.Changed? answer
---@return moonpost.Error? err
function Queue:redirect(which, address) end

--- Forgets deliveries. Nobody is told.
---@async
---@param which string|moonpost.QueueFilter
---@return moonpost.queue.Changed? answer
---@return moonpost.Error? err
function Queue:remove(which) end

--- Returns deliveries to their senders.
---@async
---@param which string|moonpost.QueueFilter
---@param code? integer 500 to 599
---@param enhanced? string
---@param text? string
---@return moonpost.queue.Changed? answer
---@return moonpost.Error? err
function Queue:bounce(which, code, enhanced, text) end

--- What is in the queue, and how its sites are.
---@async
---@return table? stats
---@return moonpost.Error? err
function Queue:stats() end

--- Asks nothing of a site any more, until it is resumed or the process ends.
---@async
---@param name string
---@return boolean? ok
---@return moonpost.Error? err
function Queue:suspend(name) end

--- Ends a suspension, or a pause.
---@async
---@param name string
---@return boolean? ok
---@return moonpost.Error? err
function Queue:resume(name) end

--- Gives a site other limits, from now on; what is not named has its default.
---@async
---@param name string
---@param limits table
---@return boolean? ok
---@return moonpost.Error? err
function Queue:limit(name, limits) end

return Queue
