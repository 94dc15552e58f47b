---@meta moonpost
-- What a script may call. lua-language-server reads this page; nothing loads it.

---@class moonpost
---@field version string
---@field log moonpost.Log
---@field Reply moonpost.ReplyMaker
---@field Error moonpost.ErrorMaker
---@field shared fun(name: string, how?: { memory?: moonpost.Size, entries?: integer }): moonpost.Shared
---@field dns moonpost.dns
---@field http moonpost.http
---@field report moonpost.Reports
---@field reports moonpost.reports
---@field spf moonpost.spf
---@field iprev moonpost.iprev
---@field links moonpost.links
---@field psl moonpost.psl
---@field authres moonpost.authres
---@field dmarc moonpost.dmarc
---@field dkim moonpost.dkim
---@field arc moonpost.arc
---@field auth moonpost.auth
---@field worker { id: integer, count: integer } which of the process's workers this is
local moonpost = {}

--- Describes a server. Nothing is bound or opened before it is started: `return` it from a policy, or run it in a script.
--- Mistakes raise at the caller's line.
---@param options moonpost.ServerOptions
---@return moonpost.Server
function moonpost.server(options) end

--- A connection to an SMTP or LMTP server, as far as messages can be sent.
---@async
---@param options moonpost.ConnectOptions|string a URL will do
---@return moonpost.Client? client
---@return moonpost.Error? err kind "dns", "connect", "tls", "auth", "refused", "timeout", "connection" or "protocol"
function moonpost.connect(options) end

--- Sends a message to wherever its recipients are: by MX, or `via` a smarthost. A result only when every one of them was accepted.
---@async
---@param options moonpost.SendOptions
---@return moonpost.SendResult? result
---@return moonpost.Error? err kind "deferred" or "refused", with a row per recipient in `recipients`
function moonpost.send(options) end

--- Connections that are kept.
---@param options? moonpost.PoolOptions
---@return moonpost.Pool
function moonpost.pool(options) end

--- Messages that are kept, tried for days, and delivered or returned.
---@param options moonpost.QueueOptions
---@return moonpost.Queue
function moonpost.queue(options) end

--- Lists of addresses and domains in the DNS (RFC 5782), asked together.
---@param options moonpost.DnsblOptions|string[]|string the zones will do
---@return moonpost.Dnsbl
function moonpost.dnsbl(options) end

--- A client of clamd.
---@param options? moonpost.clamav.Options
---@return moonpost.clamav.Scanner
function moonpost.clamav(options) end

--- A client of rspamd.
---@param options? moonpost.rspamd.Options
---@return moonpost.rspamd.Client
function moonpost.rspamd(options) end

--- A milter that is to be asked.
---@param options moonpost.milter.Options
---@return moonpost.milter.Filter
function moonpost.milter(options) end

--- Sender rewriting, for who forwards mail.
---@param options moonpost.SrsOptions
---@return moonpost.Srs
function moonpost.srs(options) end

--- When a message is tried, tried again and given up.
---@param options? moonpost.ScheduleOptions
---@return moonpost.Schedule
function moonpost.schedule(options) end

--- Runs `fn(...)` as a task, and the loop with it until it is over.
---@param fn function
---@param ... any
---@return any ... what it returned
function moonpost.run(fn, ...) end

--- Starts a task of its own. It belongs to the policy, not to the hook that called it.
---@param fn function
---@param ... any
---@return moonpost.Task
function moonpost.spawn(fn, ...) end

--- Waits.
---@async
---@param seconds number|string seconds, or "5m"
function moonpost.sleep(seconds) end

--- Runs `fn(...)`; when it has waited for more than `seconds` in all, its wait is given up, and the result is nil and a
--- moonpost.Error of kind "timeout". Without arguments: how many seconds a loop of the program's own may wait before
--- the next step(), nil = until poll_fd() is readable.
---@async
---@param seconds? number|string seconds, or "5m"
---@param fn? function
---@param ... any
---@return any ...
function moonpost.timeout(seconds, fn, ...) end

--- For programs with a loop of their own: readable when step() has work.
---@return integer fd
function moonpost.poll_fd() end

--- Does what can be done without waiting.
---@return boolean alive false when nothing is left to wait for
function moonpost.step() end

--- Runs `fn` unless that has been done under this name, by any worker or generation of this process.
---@param name string
---@param fn fun(): any
---@return boolean done by this call
---@return any ... what fn returned
function moonpost.once(name, fn) end

---@class moonpost.Task
local Task = {}

--- Ends it: the wait it is in, and every later one, raises.
---@param reason? any
function Task:cancel(reason) end

--- Waits until it is over; returns its results or raises its error.
---@async
---@return any ...
function Task:join() end

---@return boolean
function Task:finished() end

--- What a network can do to you: the second result of a function that returned nil.
---@class moonpost.Error
---@field kind string what a program decides by: "timeout", "cancelled", "bind", "config", "start", "tls", ...
---@field message string one line for people
---@field code? integer a peer's reply
---@field temporary boolean trying again may help

---@class moonpost.ErrorMaker
---@overload fun(kind: string, message: string, fields?: table): moonpost.Error
local ErrorMaker = {}

---@param kind string
---@param message string
---@param fields? table
---@return moonpost.Error
function ErrorMaker.new(kind, message, fields) end

---@param value any
---@return boolean
function ErrorMaker.is(value) end

--- A reply as a value. A hook may return it, or raise it from deep inside a helper.
---@class moonpost.Reply
---@field code integer
---@field enhanced string
---@field text string

---@class moonpost.ReplyMaker
---@overload fun(code: integer, text: string): moonpost.Reply
---@overload fun(code: integer, enhanced: string?, text: string): moonpost.Reply
local ReplyMaker = {}

---@param code integer 2xx, 4xx or 5xx
---@param enhanced? string of the same class
---@param text string
---@return moonpost.Reply
function ReplyMaker.new(code, enhanced, text) end

---@param value any
---@return boolean
function ReplyMaker.is(value) end

---@class moonpost.LogOptions
---@field level? "error"|"warn"|"info"|"debug"|"off"
---@field format? "text"|"json"
---@field output? "stderr"|fun(line: string, level: string)

--- The log. Fields whose name speaks of a password, token or secret are not written; what peers sent is escaped.
---@class moonpost.Log
---@field on table<string, boolean> which levels are written
local Log = {}

---@param text string
---@param fields? table<string, any>
function Log.error(text, fields) end

---@param text string
---@param fields? table<string, any>
function Log.warn(text, fields) end

---@param text string
---@param fields? table<string, any>
function Log.info(text, fields) end

---@param text string
---@param fields? table<string, any>
function Log.debug(text, fields) end

--- Changes what is written where; what is not named stays as it is.
---@param options moonpost.LogOptions
function Log.configure(options) end

--- One line that is safe on a terminal: control characters and octets that are no UTF-8 become escapes. For what a script
--- prints of a message.
---@param text string
---@return string
function Log.clean(text) end

return moonpost
