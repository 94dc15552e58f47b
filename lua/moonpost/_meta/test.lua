---@meta moonpost.test
-- The test kit: a policy's sessions without sockets, disk and waiting. docs/testing.md explains it.

---@class moonpost.test
local test = {}

--- Loads a policy into a world of its own. What is wrong with it raises, with its file and line.
---@param source string|moonpost.Server|fun(): moonpost.Server a policy's file, a server, or a function that returns one
---@param options? moonpost.test.Options
---@return moonpost.test.Policy
function test.load(source, options) end

--- A server that follows a script, for the `servers` of test.load and test.run.
---@param how? moonpost.test.Script
---@return moonpost.test.Server
function test.server(how) end

--- Runs `fn(world)` as a task in a world of its own: names, servers and a clock that jumps to whatever is waited for next. For code that
--- sends, and is no policy.
---@param fn fun(world: moonpost.test.Policy): ...
---@param options? moonpost.test.Options
---@return any ... what it returned
function test.run(fn, options) end

--- What a server says where it does not answer well: a reply; or { reply, after = "5s", close = true }, { close = true }, { silent = true }, { raw = octets }; or a
--- list of these, each said once and the last for ever; or a function of the command's argument that returns one, or nil for the usual.
---@alias moonpost.test.Step string|table|fun(argument: string): string|table|nil

---@class moonpost.test.Script
---@field hostname? string "mx.test"
---@field extensions? string[] what EHLO announces
---@field lmtp? boolean a reply for each recipient
---@field tls? boolean|table STARTTLS is offered, and believed; a table is what client.tls shows: { verified = false, why = "expired" }
---@field connect? "refused"|"timeout" nobody answers at all
---@field address? string
---@field banner? moonpost.test.Step
---@field ehlo? moonpost.test.Step
---@field helo? moonpost.test.Step
---@field starttls? moonpost.test.Step
---@field auth? moonpost.test.Step
---@field mail? moonpost.test.Step
---@field rcpt? moonpost.test.Step
---@field data? moonpost.test.Step
---@field body? moonpost.test.Step
---@field rset? moonpost.test.Step
---@field noop? moonpost.test.Step
---@field vrfy? moonpost.test.Step
---@field quit? moonpost.test.Step
---@field other? moonpost.test.Step

---@class moonpost.test.Server
---@field commands string[] every line it heard
---@field messages { sender: string, recipients: string[], octets: string, chunked: boolean }[] that it took
---@field sessions integer
local Server = {}
--- A new connection.
function Server:accept() end

---@class moonpost.test.Options
---@field now? number seconds since 1970 at which the clock stands; the first moment of 2026 when left out
---@field listener? string|integer whom sessions speak to unless they say otherwise: its name, or its place in `listen`
---@field log? "error"|"warn"|"info"|"debug" what is kept in policy.log: "info"
---@field delays? boolean true: the server takes its time as in life (limits.auth_delay, limits.greet_delay)
---@field dns? moonpost.dns.Zone the names that there are, for moonpost.dns; kept as policy.dns
---@field http? fun(request: moonpost.http.Request): table?, any who answers moonpost.http.request: status, headers and body, or nil and the kind of error
---@field servers? table<string, moonpost.test.Server|moonpost.test.Script> who answers outside, by host name, address or "unix:/path". A name without
--- an address in `dns` gets one
---@field modules? table<string, any> what `require` returns in the policy instead of looking for it

---@class moonpost.test.Policy
---@field server moonpost.Server
---@field sent moonpost.test.Delivery[] what would have been delivered, and what was discarded
---@field log moonpost.test.Event[]
---@field printed string[] what the policy printed, by calls of print
---@field dns moonpost.dns.Zone
local Policy = {}

--- A session with the server: connected, greeted, and as far on as `how` says.
---@param how? moonpost.test.SessionOptions|string an address alone will do
---@return moonpost.test.Peer
function Policy:session(how) end

--- The same without waiting for the greeting, for a `connect` hook that takes its time.
---@param how? moonpost.test.SessionOptions|string
---@return moonpost.test.Peer peer
---@return moonpost.test.Pending greeting
function Policy:start_session(how) end

--- Turns the clock: what is due on the way happens, each at its own time.
---@param duration moonpost.Duration
function Policy:advance(duration) end

--- The policy's time of day.
---@return number unix_seconds
function Policy:now() end

--- Lets deliveries of a kind fail from now on; nil lets them succeed again.
---@param kind "maildir"|"file"|"pipe"|"lmtp"|"forward"|"enqueue"
---@param how? moonpost.test.Failure
function Policy:fail(kind, how) end

--- Lets deliveries of a kind take time.
---@param kind "maildir"|"file"|"pipe"|"lmtp"|"forward"|"enqueue"
---@param duration moonpost.Duration
function Policy:delay(kind, duration) end

--- The log events with this text (a plain part of it) and these fields.
---@param text? string
---@param fields? table<string, any>
---@return moonpost.test.Event[]
function Policy:logged(text, fields) end

--- Forgets what was sent, logged and printed so far.
function Policy:forget() end

--- Stops the server as a signal would: idle peers are told 421, others get `grace`.
---@param grace? moonpost.Duration none when left out
function Policy:stop(grace) end

--- What tasks of the policy wait for: { "sleep(300)" }.
---@return string[]
function Policy:waits() end

---@class moonpost.test.SessionOptions
---@field ip? string "192.0.2.1" when left out
---@field port? integer
---@field local_ip? string
---@field local_port? integer the listener's own when left out
---@field unix? boolean over a unix socket; so anyway when the listener is one and no `ip` is said
---@field uid? integer of who is at the other end of a unix socket
---@field pid? integer
---@field listener? string|integer
---@field tls? boolean|moonpost.test.TlsFacts under TLS from the start: by STARTTLS unless the listener is implicit
---@field helo? string|true says EHLO (LHLO) with this name
---@field auth? string[] what peer:auth gets: { "PLAIN", user, password }

---@class moonpost.test.TlsFacts what session.tls is to be; nothing is computed
---@field version? string "TLSv1.3"
---@field cipher? string
---@field sni? string
---@field resumed? boolean
---@field subject? string of the client's certificate
---@field verified? boolean
---@field names? string[]
---@field fingerprint? string
---@field exporter? string channel binding tls-exporter, for SCRAM-SHA-256-PLUS
---@field unique? string channel binding tls-unique

---@class moonpost.test.Failure
---@field error? "NOSPACE"|"DENIED"|"NOTFOUND"|"EXISTS"|"SYSTEM"|"TIMEOUT"|"NOMEM" "SYSTEM" when left out
---@field why? string for the log
---@field status? integer pipe: the program's exit status
---@field signal? integer pipe: what ended it
---@field output? string pipe: what it said
---@field recipient? string only deliveries to this address
---@field reply? string lmtp, forward: what the next hop says, "550 5.1.1 No such user"
---@field times? integer so often, then they succeed again
---@field after? moonpost.Duration how long it takes to fail

---@class moonpost.test.Delivery
---@field disposition "maildir"|"file"|"pipe"|"lmtp"|"forward"|"discard"
---@field recipient string address; the first one when several recipients share the delivery
---@field recipients string[]
---@field sender string
---@field id string of the message
---@field user? string who had proved to be whom
---@field path? string maildir: the folder; file: the file
---@field args? string[] pipe
---@field env? string[] pipe: "NAME=value"
---@field cwd? string pipe
---@field timeout? number pipe
---@field mbox? boolean file
---@field create? boolean
---@field mode? integer
---@field line_end? "lf"|"crlf" maildir, file, pipe
---@field reason? string discard
---@field url? string lmtp, forward: where to, without credentials
---@field params? table lmtp, forward: parameters of MAIL that go on
---@field message string the octets: Return-Path, Delivered-To and Received on top, the policy's edits in place

---@class moonpost.test.Event a line of the log; tostring() shows it
---@field level "error"|"warn"|"info"|"debug"
---@field text string
---@field fields table<string, any>

---@class moonpost.test.Reply tostring() is the lines as they came
---@field code integer
---@field class integer the code's first digit
---@field enhanced? string "5.1.1"
---@field text string without codes; lines are joined by "\n"
---@field lines string[] as they came, without CRLF

---@class moonpost.test.Pending a command under way
---@field result? moonpost.test.Reply|moonpost.test.Reply[]
local Pending = {}

--- Whether the answer is there.
---@return boolean
function Pending:done() end

--- The answer. Raises when it is not there, naming what it waits for.
---@return moonpost.test.Reply reply over LMTP, at the end of a message: a list, one reply for each recipient
function Pending:reply() end

---@class moonpost.test.MessageOptions everything else is a header field: subject, reply_to, ...
---@field from? string the sender, and the field From unless the headers have one; "" when left out
---@field to string|string[] the recipients, and the field To unless the headers have one
---@field headers? table<string|integer, any> "Name: value", { "Name", value } or Name = value
---@field body? string
---@field data? string the whole message instead
---@field mail_params? string|table
---@field rcpt_params? string|table

---@class moonpost.test.Peer
---@field policy moonpost.test.Policy
---@field protocol "smtp"|"submission"|"lmtp"
---@field greeting? moonpost.test.Reply
---@field extensions table<string, string> what EHLO announced: SIZE = "50000000", PIPELINING = ""
---@field closed boolean the server has closed the connection
---@field tls? moonpost.test.TlsFacts
---@field unasked moonpost.test.Reply[] what the server said out of turn
local Peer = {}

-- Each of these says its line and returns the reply. start_NAME only says it, and returns a Pending.

---@param name? string "client.example" when left out
---@return moonpost.test.Reply
function Peer:ehlo(name) end
---@param name? string
---@return moonpost.test.Reply
function Peer:helo(name) end
---@param name? string
---@return moonpost.test.Reply
function Peer:lhlo(name) end
---@param address string "" for the null sender
---@param params? string|table "SIZE=100" or { size = 100, smtputf8 = true }
---@return moonpost.test.Reply
function Peer:mail(address, params) end
---@param address string
---@param params? string|table
---@return moonpost.test.Reply
function Peer:rcpt(address, params) end
--- DATA, and when that is answered with 354 the message: line ends become CRLF, dots are stuffed.
---@param message? string|moonpost.test.MessageOptions
---@return moonpost.test.Reply reply over LMTP: a list
function Peer:data(message) end
--- A chunk as it is.
---@param octets string
---@param last? boolean
---@return moonpost.test.Reply reply over LMTP and the last one: a list
function Peer:bdat(octets, last) end
---@return moonpost.test.Reply
function Peer:rset() end
---@param text? string
---@return moonpost.test.Reply
function Peer:noop(text) end
---@param text? string
---@return moonpost.test.Reply
function Peer:vrfy(text) end
---@param text? string
---@return moonpost.test.Reply
function Peer:expn(text) end
---@param text? string
---@return moonpost.test.Reply
function Peer:help(text) end
---@return moonpost.test.Reply
function Peer:quit() end
--- PLAIN, LOGIN, XOAUTH2, OAUTHBEARER, SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, to the end of their exchange.
---@param mechanism string
---@param user string
---@param secret string password or token
---@param authzid? string
---@return moonpost.test.Reply
function Peer:auth(mechanism, user, secret, authzid) end
--- STARTTLS, and the handshake when that is answered with 220.
---@param facts? moonpost.test.TlsFacts
---@return moonpost.test.Reply
function Peer:starttls(facts) end
--- A line that is no method of its own.
---@param line string
---@return moonpost.test.Reply
function Peer:raw(line) end

---@return moonpost.test.Pending
function Peer:start_ehlo(name) end
---@return moonpost.test.Pending
function Peer:start_helo(name) end
---@return moonpost.test.Pending
function Peer:start_lhlo(name) end
---@return moonpost.test.Pending
function Peer:start_mail(address, params) end
---@return moonpost.test.Pending
function Peer:start_rcpt(address, params) end
---@return moonpost.test.Pending
function Peer:start_data(message) end
---@return moonpost.test.Pending
function Peer:start_bdat(octets, last) end
---@return moonpost.test.Pending
function Peer:start_rset() end
---@return moonpost.test.Pending
function Peer:start_noop(text) end
---@return moonpost.test.Pending
function Peer:start_vrfy(text) end
---@return moonpost.test.Pending
function Peer:start_expn(text) end
---@return moonpost.test.Pending
function Peer:start_help(text) end
---@return moonpost.test.Pending
function Peer:start_quit() end
---@return moonpost.test.Pending
function Peer:start_auth(mechanism, user, secret, authzid) end
---@return moonpost.test.Pending
function Peer:start_starttls(facts) end
---@return moonpost.test.Pending
function Peer:start_raw(line) end
--- The same as start_raw.
---@return moonpost.test.Pending
function Peer:begin(line) end

--- Says several lines in one flight.
---@param lines string[]
---@return moonpost.test.Reply[]
function Peer:pipeline(lines) end

--- Says exactly these octets, whatever they are.
---@param octets string
---@return moonpost.test.Reply[] replies that came
function Peer:send(octets) end

--- What the server has said and no command has taken.
---@return moonpost.test.Reply[]
function Peer:replies() end

--- A whole transaction: MAIL, RCPT for each recipient, DATA.
---@param message moonpost.test.MessageOptions
---@return moonpost.test.Reply reply the last one: of the message, or the refusal that ended it; over LMTP a list
---@return moonpost.test.Reply[] recipients
function Peer:send_message(message) end

--- Closes the connection, as a peer does that has said all it had to say.
function Peer:disconnect() end

--- Is gone from one moment to the next: a hook that waits is cancelled.
function Peer:abort() end

return test
