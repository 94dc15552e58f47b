---@meta moonpost.scanners
-- Programs that are asked about messages: clamd, rspamd, milters. docs/scanners.md explains them.

---@class moonpost.clamav.Options
---@field address? string "unix:/run/clamav/clamd.ctl", "127.0.0.1:3310"
---@field timeout? moonpost.Duration for one thing that is looked at: "30s"
---@field size? moonpost.Size what is larger is not looked at: "25MB"

---@class moonpost.clamav.Found
---@field clean boolean
---@field signature? string what it is, unless it is clean

---@class moonpost.clamav.Scanner
local Scanner = {}

--- Looks at something.
---@async
---@param thing moonpost.Message|string|fun(): string? a message, octets, or a function that gives one piece after the other
---@return moonpost.clamav.Found? found
---@return moonpost.Error? err kind "too_large", "connect", "closed", "timeout", "protocol" or "scanner"
function Scanner:scan(thing) end

---@class moonpost.rspamd.Options
---@field url? string "http://127.0.0.1:11333"
---@field password? string
---@field timeout? moonpost.Duration "10s"
---@field size? moonpost.Size what is larger is not looked at: "10MB"
---@field settings? string Settings-ID

---@class moonpost.rspamd.Found
---@field action string "no action", "greylist", "add header", "rewrite subject", "soft reject", "reject"
---@field score number
---@field required? number the score that is refused
---@field symbols table<string, table>
---@field text? string what a refusal is to say
---@field subject? string
---@field skipped boolean
---@field answer table all of it

---@class moonpost.rspamd.Client
local Client = {}

--- Asks about a message.
---@async
---@param session moonpost.Session
---@param message moonpost.Message
---@return moonpost.rspamd.Found? found
---@return moonpost.Error? err kind "too_large", "message", "scanner", "protocol", or that of a request
function Client:check(session, message) end

--- Changes the header as the answer wants it.
---@param message moonpost.Message
---@param found moonpost.rspamd.Found
function Client:apply(message, found) end

---@class moonpost.milter.Options
---@field address string "unix:/run/opendkim/opendkim.sock", "127.0.0.1:8891"
---@field timeout? moonpost.Duration for each step: "30s"
---@field quarantine? fun(message: moonpost.Message, reason: string) filters that want one are told that there is none without it

---@class moonpost.milter.Answer
---@field what "continue"|"accept"|"discard"|"reject"|"tempfail"|"skip"|"reply"
---@field code? integer of a reply
---@field enhanced? string
---@field text? string

---@class moonpost.milter.Change
---@field what "add"|"insert"|"change"|"quarantine"
---@field name? string
---@field value? string
---@field at? integer
---@field reason? string

---@class moonpost.milter.Filter
local Filter = {}

--- Connects and negotiates.
---@async
---@return moonpost.milter.Talk? talk
---@return moonpost.Error? err kind "connect", "closed", "timeout" or "protocol"
function Filter:open() end

---@class moonpost.milter.Talk
local Talk = {}

--- Takes a step, unless the filter does not want it.
---@async
---@param letter "C"|"H"|"M"|"R"|"T"|"L"|"N"|"B"
---@param data? string
---@param macros? table<string, string>
---@return moonpost.milter.Answer? answer
---@return moonpost.Error? err
function Talk:step(letter, data, macros) end

--- Sends a message: header, body and its end.
---@async
---@param message moonpost.Message
---@param macros? table<string, string>
---@return moonpost.milter.Answer? answer
---@return moonpost.milter.Change[]|moonpost.Error? changes that are wanted, in order; or the error
function Talk:message(message, macros) end

--- Ends a transaction that has come to no end of its own.
---@async
---@return boolean? ok
---@return moonpost.Error? err
function Talk:abort() end

function Talk:close() end
