---@meta
--- moonpost.core.spool: the binding of csrc/spool/spool.h, which says what a spool promises. Times are unix seconds.

---@class moonpost.core
local core = {}

--- A spool, opened by the first in this process who asks for the folder, and shared. The functions that are handed in are called once, on the worker's
--- loop: with what was asked for, or with nil, why, and the name of the error ("NOSPACE", "IO", "NOTFOUND", "DAMAGED", "NOMEM", "INVALID").
---@param worker moonpost.core.worker
---@param folder string made when it is missing
---@return moonpost.core.spool? spool
---@return string? why
---@return string? error "INUSE": another process has it, which `why` names
function core.spool(worker, folder) end

---@class moonpost.core.spool
local spool = {}
--- Keeps a message. It is on disk when `done` is called with the lease of what was due at once (0: nothing was), or with false: there is one of this id.
--- A received message is kept with our Received field, and its body from where it is; a large body becomes a file.
---@param entry table id, sender, tenant, user, params, meta, received, priority, report
---@param octets string|moonpost.core.message
---@param recipients table[] address, domain, params, due, expires, alarm, held
---@param lease number seconds; 0: nothing is claimed
---@param changes? table[] of the same commit
---@param done fun(lease: integer|false|nil, why?: string, error?: string)
function spool:put(entry, octets, recipients, lease, changes, done) end
--- Keeps a received message, its Received field on top, for everybody its envelope names (message:bare() says whether nothing is lost by that).
---@param message moonpost.core.message
---@param octets? string what message:octets(true) gave, where somebody has it already
---@param received number
---@param due number
---@param expires number math.huge: never
---@param alarm number
---@param lease number seconds; 0: nothing is claimed
---@param priority integer
---@param tenant? string
---@param params? string
---@param meta? string
---@param done fun(lease: integer|false|nil, why?: string, error?: string)
function spool:accept(message, octets, received, due, expires, alarm, lease, priority, tenant, params, meta, done) end
--- Changes recipients, all in one commit; one that is gone is no error. `verb`: delivered, bounced, expired, removed, reschedule (lease, due, now, alarm,
--- warned, last, site, host), hold, release, retry (due), redirect (address, domain).
---@param changes table[] verb, id, number, ...; at most 1000
---@param done fun(count: integer?, why?: string, error?: string) how many there were
function spool:update(changes, done) end
--- Claims what is due of a domain: a list of messages (fields as of put, and size), each with its recipients in the list part (fields as of put, and
--- number, original, site, host, last, attempts, warned, lease).
---@param done fun(items: table[]?, why?: string, error?: string)
function spool:claim(domain, now, most, lease, done) end
--- Claims those whose alarm is over, whatever they wait for.
function spool:alarms(now, most, lease, done) end
--- Claims those of one message that nobody has, whatever they wait for.
function spool:take(id, now, most, lease, done) end
--- Gives one back, to be claimed in so many seconds; number 0: those of the whole message.
function spool:leave(lease, id, number, seconds) end
--- What is still claimed by this lease stays claimed for so many seconds from now.
function spool:keep(lease, seconds) end
--- A page in the order of messages, and whether there may be more; with `most` 0 how many recipients and messages there are.
---@param filter table id, sender, recipient, domain, site, tenant, reply, held, waiting, before, after
---@param after string "" for the first page
---@param number integer 0: behind all recipients of `after`
---@param done fun(items: table[]|integer|nil, more: boolean|integer|string, error?: string)
function spool:list(filter, after, number, most, done) end
---@param done fun(octets: string?, head: integer|string, total: integer|string)
function spool:read(id, offset, size, done) end
--- Looks at everything, and sets aside what is damaged.
---@param done fun(aside: integer?, why?: string, error?: string)
function spool:check(done) end
--- Domains of this worker with something due. None of them is given again for `again` seconds, unless it is claimed from or woken.
---@return string[] domains
---@return table<string, true> roused those of them that somebody wants to be tried now
function spool:due(now, again, most) end
---@return number? seconds until it may be worth looking; nil: nothing waits
---@return boolean over an alarm is over
function spool:next(now) end
--- A domain is not due for so many seconds; 0 ends that.
function spool:quiet(domain, seconds) end
--- Domains for which most recipients wait, most first.
---@param most integer up to 100
---@return { domain: string, waiting: integer, claimed: integer }[]
function spool:busiest(most) end
--- What waits for a domain is to be tried now: its quiet time ends, and that of whatever was given back for later.
function spool:rouse(domain) end
--- A domain is named to the worker of this number from now on, until nothing waits for it.
---@param owner integer from 1
---@return boolean known something waits for it
function spool:give(domain, owner) end
---@return integer owner which of those who share the domains this worker is
---@return integer owners
function spool:owner() end
--- Everybody who has the spool open hears that something has changed.
function spool:tell() end
---@return table domains, waiting, claimed; puts, delivered, bounced, expired, removed, rescheduled, commits, committed since it was opened; log_octets, failing
function spool:stats() end
---@param fn fun() something may be due earlier than it was
function spool:changed(fn) end
---@param fn fun(line: string) for an operator: what was set aside, a disk that fails, that it works again
function spool:logged(fn) end
function spool:close() end
