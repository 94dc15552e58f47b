---@meta moonpost.message

---@class moonpost.Sender
---@field address string as received; "" for the null reverse-path
---@field localpart string
---@field domain string
---@field mailbox string local part, case-folded, without detail
---@field detail? string behind the separator
---@field params? table parameters of MAIL: size, body, smtputf8, ret, envid, by, by_mode, ...

---@class moonpost.Recipient
---@field address string as received, or rewritten
---@field localpart string
---@field domain string
---@field mailbox string local part, case-folded, without detail
---@field detail? string behind the separator
---@field class "local"|"relay"|"none"
---@field params? table parameters of RCPT: notify, orcpt, orcpt_type
---@field original? string what the peer said, when it has been rewritten
---@field index integer place in the envelope, from 1
local Recipient = {}

--- Lets this recipient be relayed whatever the relay rule says. From the `rcpt` hook alone, while it is asked about it.
function Recipient:allow_relay() end

--- Puts another address, or several, in this one's place: an alias.
---@param ... string|string[] addresses without angle brackets
function Recipient:rewrite(...) end

--- Hands the message on to another server for this recipient, while the sender waits. From the `rcpt` hook alone: over SMTP the next recipient is
--- then told 452 4.5.3 and comes in a transaction of its own.
---@param options string|moonpost.Forwarding a URL, or options
function Recipient:forward(options) end

--- The header fields, in their order; message.headers.subject is headers:get("subject").
---@class moonpost.Headers
---@field [string] string?
local Headers = {}

--- The value of the first field of that name, unfolded.
---@param name string
---@return string? value
---@return string? why
function Headers:get(name) end

--- The values of all fields of that name, in order.
---@param name string
---@return string[]
function Headers:all(name) end

---@return integer
---@return string? why
function Headers:count() end

--- Where a field of that name stands: the first one at or behind a position.
---@param name string
---@param from? integer 1 when left out
---@return integer? position
---@return string? why
function Headers:find(name, from) end

--- The field at a position.
---@param position integer
---@return string? name nil past the last one
---@return string? value
---@return string? raw
function Headers:at(position) end

--- for name, value, raw in message.headers:each() do ... end
---@return fun(): string?, string?, string?
function Headers:each() end

--- Its octets behind the colon, folding included; of the first field of that name, as all below.
---@param name string
---@return string? raw
---@return string? why
function Headers:raw(name) end

--- UTF-8, encoded words decoded (RFC 2047).
---@param name string
---@return string? text
---@return string? why
function Headers:text(name) end

--- Mailboxes and groups (RFC 5322 3.4).
---@param name string
---@return moonpost.Address[]? list
---@return string? why
function Headers:addresses(name) end

--- The time in "Date", or in another field.
---@param name? string
---@return integer? time seconds since 1970
---@return integer|string|nil zone minutes east of Greenwich
function Headers:time(name) end

--- Message ids without their brackets (RFC 5322 3.6.4).
---@param name string
---@return string[]? ids
---@return string? why
function Headers:ids(name) end

--- What stands between commas, decoded (RFC 5322 3.6.5).
---@param name string
---@return string[]? items
---@return string? why
function Headers:list(name) end

--- "text/plain", { charset = "utf-8" } (RFC 2045 5.1, RFC 2231).
---@param name string
---@return string? value lower case
---@return table<string, string>|string|nil parameters by lower-case name
function Headers:parameters(name) end

--- What became of a message for one recipient.
---@class moonpost.Result
---@field url? string where it was handed on to
---@field relayed? boolean the reply is that server's
---@field recipient moonpost.Recipient
---@field address string
---@field ok boolean
---@field code integer
---@field enhanced string
---@field text string
---@field disposition "maildir"|"file"|"pipe"|"lmtp"|"forward"|"enqueue"|"discard"|"refuse"|"none"
---@field path? string of the file that was made
---@field why? string for the log, never for the peer

--- Where a message goes: one of maildir, file, pipe and lmtp. In paths and arguments stand %{mailbox}, %{localpart},
--- %{domain}, %{detail}, %{id}, %{user}, %{date}; %{detail:INBOX} has a default.
---@class moonpost.Delivery
---@field maildir? string
---@field file? string
---@field mbox? boolean the file is an mbox that grows
---@field pipe? string[] program and arguments; no shell
---@field create? boolean make missing folders (true)
---@field mode? string of the file: "0600"
---@field line_end? "lf"|"crlf" of what is written ("lf"); an mbox has "lf", what came with BODY=BINARYMIME keeps its octets
---@field timeout? moonpost.Duration of the program: "1m"
---@field cwd? string of the program: "/"
---@field env? table<string, string> of the program, beside PATH, LANG, SENDER, RECIPIENT and MESSAGE_ID

--- How a message is handed on while its sender waits. Next hops of which the same is said are one, and share their connections.
---@class moonpost.Forwarding: moonpost.ConnectOptions
---@field timeout? moonpost.Duration for all of it ("5m"); then the sender hears 451
---@field connections? integer at a time (20)
---@field per_connection? integer messages of a connection (100); 0 = no limit
---@field idle? moonpost.Duration how long a connection is kept that nobody uses ("30s")

---@class moonpost.LmtpDelivery: moonpost.Forwarding
---@field lmtp string "lmtp://unix:/run/lmtp.sock", "lmtp://127.0.0.1:24"

---@class moonpost.Selection
local Selection = {}

---@param options moonpost.Delivery|moonpost.LmtpDelivery
function Selection:deliver(options) end

---@param options string|moonpost.Forwarding a URL, or options
function Selection:forward(options) end

---@param queue moonpost.Queue
---@param queue? moonpost.Queue the server's when left out
function Selection:enqueue(queue) end

---@param reason string
function Selection:discard(reason) end

---@param code integer
---@param enhanced? string may be left out
---@param text? string
function Selection:refuse(code, enhanced, text) end

--- A received message. Its plans run when the last hook is over; after the answer its octets are gone, unless kept.
---@class moonpost.Message
---@field session moonpost.Session
---@field id string
---@field size integer octets as received
---@field time number when it was first asked for, in seconds since 1970
---@field eight_bit boolean octets above 127 occurred
---@field repaired boolean bare CR or LF have been repaired
---@field sender moonpost.Sender
---@field params table|false parameters of MAIL
---@field recipients moonpost.Recipient[]
---@field headers moonpost.Headers
---@field meta table the script's own, kept with the message
local Message = {}

--- The message as it stands, edits in place.
---@return string? octets
---@return string? why
function Message:octets() end

--- The tree of its parts, as its header stands now.
---@param limits? { depth?: integer, parts?: integer, header?: integer, content?: integer }
---@return moonpost.mime.Tree? tree
---@return moonpost.Error? err kind "limit"
function Message:mime(limits) end

--- The best text/plain body as UTF-8.
---@return string? text
---@return moonpost.Error? err kind "mime": there is none; "limit"
function Message:text() end

--- The best text/html body as UTF-8.
---@return string? html
---@return moonpost.Error? err kind "mime": there is none; "limit"
function Message:html() end

--- The parts that are not its body.
---@return moonpost.mime.Part[]? parts
---@return moonpost.Error? err kind "limit"
function Message:attachments() end

--- The same octets piece by piece: for chunk in message:chunks() do ... end
---@param most? integer octets of a piece
---@return fun(): string?
function Message:chunks(most) end

--- Keeps the octets when the message has been answered: for a task that goes on with it.
function Message:keep() end

--- Puts a field on top.
---@param name string
---@param value string
function Message:prepend(name, value) end

--- Puts a field at the end of the header.
---@param name string
---@param value string
function Message:append(name, value) end

--- Gives the first field of that name another value, and takes the others of that name away. Appends where there is none.
--- With a position: gives the field that stands there another value.
---@param name string|integer
---@param value string
function Message:replace(name, value) end

--- Takes away every field of that name; with a position, the one that stands there.
---@param name string|integer
---@return integer count how many there were
function Message:remove(name) end

--- Puts a field in front of the one at a position; one behind the last: at the end.
---@param position integer
---@param name string
---@param value string
function Message:insert(position, name, value) end

--- Some of the recipients.
---@param selector "local"|"relay"|moonpost.Recipient|fun(recipient: moonpost.Recipient): any
---@return moonpost.Selection
function Message:to(selector) end

--- For every recipient: into a Maildir, a file, a program, to an LMTP server.
---@param options moonpost.Delivery|moonpost.LmtpDelivery
function Message:deliver(options) end

--- For every recipient: handed on to another server while the sender waits, who hears that server's reply.
---@param options string|moonpost.Forwarding a URL, or options
function Message:forward(options) end

--- For every recipient: kept in a queue, which delivers it or returns it to its sender. It is on disk before the reply.
---@param queue moonpost.Queue
---@param queue? moonpost.Queue the server's when left out
function Message:enqueue(queue) end

--- For every recipient: thrown away, on purpose and by name.
---@param reason string
function Message:discard(reason) end

--- For every recipient: refused with this reply.
---@param code integer
---@param enhanced? string may be left out
---@param text? string
function Message:refuse(code, enhanced, text) end

--- Carries out the plans that have been written so far, now, and waits for their outcome.
---@async
---@return moonpost.Result[] rows one for each recipient
function Message:perform() end

return Message
