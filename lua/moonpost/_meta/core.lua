---@meta moonpost.core
-- The C module, as the Lua files of moonpost see it. Users call `require "moonpost"`; this page is for who works on the house.
-- Times are seconds (fractions allowed), sizes octets, unless a name says otherwise.

---@class moonpost.core
---@field VERSION string
---@field PENDING userdata a dispatch function returns this when it will answer later by conn:answer
---@field watch_api userdata csrc/api/watch.h: the loop, for C modules beside this one
local core = {}

--- The worker of this Lua state: its loop, its connections. Made at the first call; in a serving thread it is the thread's.
---@return moonpost.core.worker
function core.worker() end

--- A worker without a loop, whose clock is turned by hand; for moonpost.test.
---@return moonpost.core.worker
function core.virtual_worker() end

--- Binds a listening endpoint for the life of the process.
---@param endpoint { ip?: string, port?: integer, path?: string, mode?: integer }
---@param workers? integer how many sockets share a TCP port (default 1)
---@param backlog? integer
---@return moonpost.core.binding? binding
---@return string? why one line: endpoint and reason
function core.bind(endpoint, workers, backlog) end

--- Wall-clock time, microsecond resolution.
---@return number unix_seconds
function core.time() end

--- Whether a log line shows a text without quotes: at least one octet, all printable, and no space, quote, "=" or backslash.
---@param text string
---@return boolean
function core.is_plain(text) end

--- crypt(3) hash or RFC 5803 string for a password file.
---@param kind "SCRAM-SHA-256"|"SCRAM-SHA-1"|"crypt"
---@param password string
---@return string
function core.password(kind, password) end

--- HMAC-SHA256.
---@param key string of any length
---@param text string
---@return string code 32 octets
function core.hmac(key, text) end

--- Octets that nobody can foretell.
---@param count integer 1 to 256
---@return string octets
function core.random(count) end

--- Makes a self-signed development certificate unless both files are there.
---@return boolean? made false when it was there already
---@return string? why
function core.selfsigned(cert_path, key_path, hostname) end

---@param ip string
---@param network string "10.0.0.0/8"
---@return boolean? inside nil when either is malformed
function core.in_network(ip, network) end

--- RFC 5321 Mailbox: its parts, or nil when it is none.
---@param address string
---@param utf8? boolean SMTPUTF8 allowed
---@return string? localpart unquoted
---@return string? domain
function core.mailbox(address, utf8) end

--- Whether this is an address, all of it ASCII.
---@param address string
---@return boolean
function core.is_mailbox(address) end

--- A domain name as the DNS knows it: A-labels, lower case, no dot at the end.
---@param name string
---@return string? ascii
---@return string? why
function core.dns_name(name) end

--- A name as people read it: U-labels, UTF-8; nil when it is none.
---@param name string
---@return string? unicode
---@return string? why
---@return string? error
function core.dns_unicode(name) end

--- The name of an address's PTR records; nil when it is no address.
---@param ip string
---@return string? name
function core.dns_reverse(ip) end

--- Public suffixes of a file, or the newer of the system's list and libpsl's own.
---@param path? string
---@return moonpost.core.psl? list
---@return string? why
---@return string? error
function core.psl(path) end

--- Authentication-Results (RFC 8601), read.
---@param value string of the field
---@return moonpost.authres.Field? field nil when there is nothing in it
function core.authres(value) end

--- A public key, by the text of its TXT record (RFC 6376 3.6.1).
---@param record string
---@return moonpost.core.dkim_key? key
---@return string? why
---@return string? error
function core.dkim_record(record) end

--- A private key: PEM, or the seed of an Ed25519 key in base64.
---@param text string
---@return moonpost.core.dkim_key? key
---@return string? why
---@return string? error
function core.dkim_key(text) end

---@param kind "rsa"|"ed25519"
---@param bits? integer
---@return moonpost.core.dkim_key key
function core.dkim_make_key(kind, bits) end

--- What judges the signatures of a message as it was received.
---@param message moonpost.core.message|string
---@param now number seconds since 1970
---@param partial boolean l= may leave octets unsigned
---@return moonpost.core.dkim_verifier? verifier
---@return string? why
---@return string? error
function core.dkim_verifier(message, now, partial) end

--- The fields ARC-* and Authentication-Results from the top, at most 256; as received, or as they stand.
---@param message moonpost.core.message|string
---@param edited boolean
---@return { name: string, value: string, raw: string }[]? fields names in lower case
---@return string? why
---@return string? error
function core.arc_fields(message, edited) end

--- What is signed by the last of these fields (relaxed), its b= left out.
---@param fields string[] one to 256
---@return string digest
function core.arc_digest(fields) end

--- What is signed by a field that names others, its b= left out.
---@param message moonpost.core.message|string
---@param edited boolean
---@param names string with ":" between
---@param form "simple"|"relaxed"
---@param field string name, ":" and value
---@return string? digest
---@return string? why
---@return string? error
function core.dkim_digest(message, edited, names, form, field) end

--- Each name as often as it is there, with ":" between; those of RFC 6376 5.4.1 when none are given.
---@param message moonpost.core.message|string
---@param names? string
---@return string? names
---@return string? why
---@return string? error
function core.dkim_choose(message, names) end

--- A list of tags (RFC 6376 3.2).
---@param text string
---@return table<string, string>? tags
---@return string? why
---@return string? error
function core.dkim_tags(text) end

--- base64 in which white space does not count; nil when it is none.
---@param text string
---@return string? octets
function core.dkim_octets(text) end

--- Hashes of a body, in one pass: a form and a limit (false: all of it) for each, at most eight; behind them `true` for the body as it came, whatever the
--- message has now. A large body of which the same was asked before has been hashed while it arrived.
---@param form "simple"|"relaxed"
---@param limit integer|false
---@return moonpost.core.dkim_hash
function core.dkim_hash(form, limit, ...) end

--- nil when a reply may go on the wire, else the reason it may not.
---@return string? why
function core.check_reply(code, enhanced, text) end

--- Interrupts the Lua code that runs now on this worker, once it has run for `seconds` without returning to the loop. Kept armed by
--- the monitor thread; no cost per call.
---@param seconds number 0 = off
---@param loading? boolean a policy is being loaded: it is interrupted as well when the server stops or the job is cancelled
function core.watchdog(seconds, loading) end

--- coroutine.resume that tells the watchdog who runs; called by the task module alone.
---@param co thread
---@return boolean ok
---@return any ...
function core.resume(co, ...) end

--- The same for tasks: true and the results when the coroutine's function has returned (then another may be started in it), nil and what
--- it yielded, false and the error.
---@param co thread
---@param ... any a function and its arguments for a coroutine that has nothing to do, else what its yield returns
---@return boolean? over
---@return any ...
function core.run(co, ...) end

--- A coroutine that has nothing to do, for core.run.
---@return thread
function core.coroutine() end

--- A ceiling for this state's memory: past it, and after a full collection, Lua raises "not enough memory". In a serving thread a state
--- that stays over it is told to the threads' events.
---@param octets integer 0 = none
function core.memory(octets) end

--- Starts serving threads, each with a worker; they are idle until something is loaded. The state needs a worker of its own, on whose loop it is
--- told what they answer. They end with stop(), or with this state.
---@param count integer 1 to 256
---@return moonpost.core.threads
function core.threads(count) end

--- A datagram for the supervisor of this process, sd_notify(3).
---@param address string NOTIFY_SOCKET
---@param text string
---@return boolean? ok
---@return string? why
---@return string? error
function core.notify(address, text) end
---@return integer microseconds CLOCK_MONOTONIC
function core.monotonic() end
---@return integer pid
function core.pid() end
--- A variable of the environment, which is gone then. Before there are threads.
---@param name string
---@return string? value
function core.take_environment(name) end
--- A binding made of a socket that was handed to this process. It is shared by all workers.
---@param fd integer
---@return moonpost.core.binding? binding
---@return boolean|string any_family_or_why it is [::] and takes IPv4 too; else the end of a sentence about the descriptor
function core.adopt(fd) end

--- From a serving thread: an event "tells" of the state that started it. Elsewhere nobody hears it.
---@param text string
function core.tell(text) end

--- What is another text when a file was written, or is another one; of a folder, when it is another folder. nil, why and the name of the error when
--- there is none.
---@param path string
---@return string? mark without spaces
---@return boolean|string folder_or_why
---@return string? error
function core.file_mark(path) end

--- Where a symbolic link points, as it says; nil when it is none.
---@param path string
---@return string? target
function core.link_target(path) end

---@class moonpost.core.psl
local psl = {}
--- The public suffix of a name and one label more; nil when there is none.
---@param name string
---@return string? domain
function psl:registrable(name) end

---@class moonpost.core.dkim_key
local dkim_key = {}
---@return "rsa"|"ed25519" kind
---@return integer bits
---@return boolean testing its record says so
---@return boolean sha256 its record allows it
function dkim_key:facts() end
---@param digest string of SHA-256
---@return string? signature
---@return string? why
---@return string? error
function dkim_key:sign(digest) end
---@param digest string of SHA-256
---@param signature string octets
---@return true? holds
---@return string? why
---@return string? error
function dkim_key:check(digest, signature) end
---@return string pem of a private key
function dkim_key:pem() end
---@return string record of the public half
function dkim_key:record() end

---@class moonpost.core.dkim_verifier
local dkim_verifier = {}
---@return integer count signatures that are judged
---@return integer more that are not
---@return boolean body whether the body is wanted
function dkim_verifier:count() end
---@return table signature what is known of it by now
function dkim_verifier:signature(i) end
--- The name of the TXT record that holds the key; nil when it is judged.
---@return string? name
function dkim_verifier:question(i) end
--- Feeds the body; long ones, and those in files, in the thread pool.
---@param message moonpost.core.message|string
---@param worker moonpost.core.worker
---@param done fun(ok?: boolean, why?: string, error?: string)
---@return boolean? now true: it has been fed; false: done is called later
---@return string? why
---@return string? error
function dkim_verifier:feed(message, worker, done) end
---@param key moonpost.core.dkim_key
function dkim_verifier:judge(i, key) end
---@param temporary boolean temperror, else permerror
---@param why string
function dkim_verifier:refuse(i, temporary, why) end
function dkim_verifier:close() end

---@class moonpost.core.dkim_hash
local dkim_hash = {}
--- As dkim_verifier:feed.
function dkim_hash:feed(message, worker, done) end
--- The value of a DKIM-Signature field, with the i-th hash.
---@param message moonpost.core.message|string as it stands
---@param options table { domain, selector, identity, headers, oversign, absent, header_form, time, expires }
---@param key moonpost.core.dkim_key
---@return string? value
---@return string? why
---@return string? error
function dkim_hash:sign(i, message, options, key) end
---@return string digest of the i-th form
function dkim_hash:digest(i) end
function dkim_hash:close() end

---@class moonpost.core.folder
local folder = {}
function folder:close() end

--- Calls require(module)[name](text) in a Lua state made for it, in a thread of its own. The state that asks needs a worker, on whose loop
--- it is told.
---@param done fun(result?: string, why?: string) `why`: what was raised
---@return moonpost.core.fresh
function core.fresh(module, name, text, done) end

---@class moonpost.core.fresh
local fresh = {}
--- Interrupts the Lua in it, as the watchdog does. What it comes to is told all the same.
function fresh:cancel() end

--- Which of the serving threads this state is in (from 1), and how many there are; 1, 1 elsewhere.
---@return integer thread
---@return integer threads
function core.place() end

--- True for the first in this process who asks with this name. `undo`: it did not happen after all.
---@param name string
---@param undo? boolean
---@return boolean first
function core.once(name, undo) end

--- The shared tables of this process; `own`: a set that nobody else sees.
---@param own? boolean
---@return moonpost.core.tables
function core.tables(own) end

--- Becomes another user for good; the whole process.
---@param user string
---@param group? string
---@return boolean? ok
---@return string? why
function core.drop_privileges(user, group) end

--- Asks for one line that is not shown while it is typed.
---@param prompt string
---@return string|false|nil line false when standard input is no terminal
---@return string? why
function core.read_secret(prompt) end

--- Serving threads and the generations in them. Each `done` is called once on a later turn, when every thread has answered: with nil, or with
--- what the first that failed said.
--- A file of lines, written by the thread pool; from `limit` octets on (0: never) it becomes path.1, of which `keep` are kept. One that somebody
--- moves is made anew.
---@param worker moonpost.core.worker
---@param path string
---@param limit integer
---@param keep integer
---@param trouble fun(lost: integer, why: string) lines were lost
---@return moonpost.core.journal? journal
---@return string? why
---@return string? error
function core.journal(worker, path, limit, keep, trouble) end

---@class moonpost.core.journal
local journal = {}
---@param line string without its end
function journal:add(line) end
--- What has been added is still written.
function journal:close() end

---@class moonpost.core.worker
local worker = {}
---@return number seconds monotonic
function worker:now() end
---@return number unix_seconds on the clock that a test turns, where there is one
function worker:time() end
--- Virtual only: sets the time of day.
---@param unix_seconds number
function worker:set_time(unix_seconds) end
--- A name for a message that did not come by a connection; of two the later one sorts behind.
---@return string
function worker:message_id() end
---@param seconds number
---@param fn fun() called once on a later turn
---@return moonpost.core.timer
function worker:timer(seconds, fn) end
---@param fn fun() called on the next turn
function worker:defer(fn) end
--- Raises when it is called from inside a turn.
---@param wait boolean block until something happens
---@return boolean alive false when nothing is left to wait for
function worker:turn(wait) end
--- Runs until stop().
function worker:run() end
function worker:stop() end
---@return integer fd readable when a turn has work
function worker:fd() end
---@return number? seconds until a turn has work anyway
function worker:timeout() end
---@return boolean
function worker:is_virtual() end
--- Virtual only: turns the clock; timers on the way run at their own time.
function worker:advance(seconds) end
---@return number? seconds until the earliest timer, nil when none is set
function worker:next_timer() end
--- Calls fn when the process is sent one of the named signals ("TERM", "INT", "HUP", "USR1"); nil fn restores the default, false: it is ignored from now on.
function worker:signal(name, fn) end
--- Calls fn after something happened in a folder or to the folder; once or more often, and without saying what. Does not keep the loop alive.
---@param path string
---@param fn fun()
---@return moonpost.core.folder? folder watched until it is closed
---@return string? why
---@return string? error
function worker:folder(path, fn) end
---@param config moonpost.core.service_config
---@return moonpost.core.service? service
---@return string? why one line for the user (a certificate that cannot be read, ...)
function worker:service(config) end
--- A resolver; those with one key share a cache. A virtual worker has none.
---@param key string the description as one text
---@param how { forwarders?: string[], stub_zones?: string[], stub_servers?: string[], anchors?: string[], root_key?: string, recursion?: boolean } addresses
--- of servers as "ip" or "ip@port"
---@return moonpost.core.dns? dns
---@return string? why
function worker:dns(key, how) end
--- Connects to the first of up to 32 addresses that answers (RFC 8305). `done` is called once, on a later turn: with a stream and its place in
--- `to`, or with nil, a reason for each address in one line, and the name of the error. Not on a virtual worker.
---@param opts { to: { ip?: string, port?: integer, path?: string }[], source4?: string, source6?: string, stagger?: number, each?: number }
---@param done fun(stream: moonpost.core.stream?, which_or_why: integer|string, error?: string)
---@return moonpost.core.dial? dial
---@return string? why
function worker:dial(opts, done) end
--- The client of an SMTP or LMTP conversation over a stream, which is taken. `on` hears of everything: "done" (ok, error?, code?, enhanced?, text?,
--- own, again) ends each operation, the greeting first; "want" asks for a piece of a body; "closed" (error?, why) is the last; "trace" (sent, octets,
--- octets of a body). Times are seconds; `ignore` holds extensions that are treated as if the peer did not announce them; `tls` is as in
--- client:starttls, for TLS from the start.
---@param stream moonpost.core.stream
---@param opts { hostname: string, lmtp?: boolean, flight?: integer, pretend_tls?: boolean, tls?: table, trace?: boolean, ignore?: table<string, true>, no_helo?: boolean, refuse_bare?: boolean, [string]: any }
---@param on fun(kind: string, ...)
---@return moonpost.core.client? client
---@return string? why
function worker:client(stream, opts, on) end
--- A stream in memory, and its other end.
---@param peer { ip?: string, port?: integer, unix?: boolean }
---@return moonpost.core.stream stream
---@return moonpost.core.wire wire
function worker:memory_stream(peer) end

--- A message made of octets, to be delivered like one that was received; false: `done` is called with it later, when a large one is in a file.
---@param octets string
---@param sender string
---@param recipient string
---@param id string
---@param received number unix seconds
---@param binary boolean its lines are none (RFC 3030)
---@param done fun(message: moonpost.core.message?, why?: string, error?: string)
---@return moonpost.core.message|false|nil message
---@return string? why
---@return string? error
function worker:message(octets, sender, recipient, id, received, binary, done) end
--- A conversation in lines over a stream, which is taken. `on("line", text)`, `on("drained")` when what waited to be sent has gone, `on("end", why)`, the last.
---@param stream moonpost.core.stream
---@param on fun(what: "line"|"octets"|"drained"|"end", text: string)
---@param octets? boolean they are told as they come, and no lines
---@return moonpost.core.lines
function worker:lines(stream, on, octets) end
--- Accepts on a binding; `accepted(lines)` answers with the function that hears of its lines.
---@param binding moonpost.core.binding
---@param accepted fun(lines: moonpost.core.lines): function
---@param octets? boolean
---@return moonpost.core.lines_listener? listener
---@return string? why
function worker:listen_lines(binding, accepted, octets) end

---@class moonpost.core.rewrite
local rewrite = {}
--- true; nil, why, name of the error; or false: done(...) comes later with one of these.
---@param octets string
---@param done fun(ok: true?, why: string?, name: string?)
---@return boolean? ok
---@return string? why
function rewrite:add(octets, done) end
--- The same; then the message has the new body.
---@param done fun(ok: true?, why: string?, name: string?)
---@return boolean? ok
---@return string? why
function rewrite:finish(done) end
function rewrite:close() end

---@class moonpost.core.lines
local lines = {}
--- true: it has gone or waits; false: too much waits, "drained" comes later; nil: nobody is there any more.
---@param text string
---@return boolean?
function lines:say(text) end
--- No line is told until start().
function lines:stop() end
function lines:start() end
--- What was said still goes.
function lines:close() end

---@class moonpost.core.lines_listener
local lines_listener = {}
function lines_listener:close() end

---@class moonpost.core.dns
local core_dns = {}
--- Asks. `done` is called once, on a later turn: with an answer (a list of records with ttl, status, name, nxdomain, nodata), or with nil, "servfail",
--- "bogus" or "timeout", and why.
---@param name string as core.dns_name returns it
---@param type "A"|"AAAA"|"MX"|"TXT"|"PTR"|"TLSA"|"CNAME"
---@param timeout number seconds
---@param done fun(answer?: table, kind?: string, why?: string)
---@return moonpost.core.query? query
---@return string? why
function core_dns:ask(name, type, timeout, done) end
---@return integer questions in flight, of every handle that shares the cache
function core_dns:waiting() end

---@class moonpost.core.query
local query = {}
--- `done` is not called any more.
function query:cancel() end


---@class moonpost.core.timer
local timer = {}
function timer:cancel() end

---@class moonpost.core.binding
local binding = {}
---@return { ip?: string, port?: integer, path?: string }
function binding:endpoint() end
function binding:close() end

--- What a generation's server is, for C. Everything is checked by the Lua side before; C's own checks raise.
---@class moonpost.core.service_config
---@field hostname string
---@field banner? string
---@field domains string[] lower case; "*" = every domain; ".example.org" = every subdomain
---@field relay { networks: string[], authenticated: boolean }
---@field xclient string[] networks
---@field tls? { certs: { certificate: string, key?: string, name?: string }[], min_version: string, ciphers?: string, ciphersuites?: string, client: "off"|"ask"|"require", client_ca?: string, tickets: boolean }
---@field limits table<string, number|boolean> every number of docs/limits.md by name; see service.c
---@field tmpdir? string
---@field loop_addresses? string[]
---@field session fun(conn: moonpost.core.conn): any makes the session object; called before its first hook
---@field dispatch fun(kind: string, session: any, ...): any see docs/architecture.md, "From C to Lua and back"

---@class moonpost.core.service
local service = {}
--- Which events call dispatch from now on ("connect", "tls", "helo", "credentials", "auth", "token", "mail", "rcpt", "data", "message",
--- "reset", "quit", "disconnect", "refused"); the others get C's default verdict.
---@param names string[]
function service:hooks(names) end
--- Serves a binding. New connections meet this service until the listener is closed.
---@param binding moonpost.core.binding
---@param listener moonpost.core.listener_config
---@return moonpost.core.listener? listener
---@return string? why
function service:listen(binding, listener) end
--- A connection with no socket (any worker kind), for tests.
---@param listener moonpost.core.listener_config
---@param peer { ip: string, port?: integer, local_ip?: string, local_port?: integer }
---@return moonpost.core.wire
function service:wire(listener, peer) end
--- Stops accepting, tells idle peers 421, lets busy ones finish for `grace` seconds, then closes them. done() is called once.
---@param grace number
---@param done? fun()
---@param gently? boolean idle peers are not told before the grace is over: another service meets the new ones
function service:stop(grace, done, gently) end
---@return { connections: integer, accepted: integer, messages: integer, refused: integer }
function service:counts() end
--- Loads the certificates anew for later sessions.
---@return boolean? ok
---@return string? why
function service:reload_tls(tls) end

---@class moonpost.core.listener_config
---@field name string what hooks see as session.listener
---@field protocol "smtp"|"submission"|"lmtp"
---@field tls "none"|"starttls"|"implicit"
---@field tls_required boolean
---@field auth_required boolean
---@field auth_in_clear boolean
---@field mechanisms string[]
---@field extensions string[] names to announce
---@field lax string[] "space", "brackets", "dots", "underscore", "helo", "no_helo", "length"
---@field early "refuse"|"tolerate"
---@field bare "trusted"|"repair"|"refuse" bare CR and LF: repaired for trusted peers alone, for all, for none
---@field long_lines "accept"|"refuse"
---@field proxy? string[] networks whose connections start with a PROXY header
---@field tolerate_injection? boolean plaintext behind STARTTLS is thrown away; else it ends the session
---@field priority_profile? string of MT-PRIORITY

---@class moonpost.core.listener
local listener = {}
function listener:close() end

--- One connection. Outlives it as a closed handle.
---@class moonpost.core.conn
local conn = {}
--- Answers the pending event with what dispatch might have returned. False when the peer is gone meanwhile.
---@return boolean taken
function conn:answer(...) end
--- LMTP, before answer() to "message": the reply of recipient `index` (from 1).
function conn:answer_rcpt(index, code, enhanced, text) end
--- Lets the recipient that is being asked about be relayed whatever the relay rule says.
function conn:allow_relay() end
---@param code integer
---@param enhanced? string
---@param text? string
function conn:close(code, enhanced, text) end
---@return boolean
function conn:alive() end
--- A fresh table: ip, port, local_ip, local_port, unix, uid, pid, listener, protocol, helo, esmtp, user, mechanism, senders, with, early_talker,
--- errors, trusted, proxied; tls = nil or { version, cipher, sni, resumed, subject, verified, names, fingerprint }.
---@return table
function conn:facts() end
--- One fact of the above, without a table.
---@param name string
function conn:fact(name) end
--- Counts of the whole session: { messages, messages_refused, recipients, recipients_refused, bad, octets, ms }; nil when it is over.
---@return table<string, integer>?
function conn:tally() end

--- A received message. It is closed (its octets freed) once it has been answered, unless keep() was called: the collector cannot know how
--- much memory stands behind a handle.
---@class moonpost.core.message
local message = {}
--- Keeps the message until the handle is collected or closed.
function message:keep() end
function message:close() end
---@return string
function message:id() end
---@return integer octets as received
function message:size() end
---@return boolean eight_bit octets above 127 occurred
---@return boolean repaired bare CR or LF were repaired
function message:facts() end
---@return string address "" for the null reverse-path
---@return string localpart
---@return string domain
---@return table? params nil when none were given
function message:sender() end
---@return integer
function message:recipient_count() end
---@return string address
---@return string localpart
---@return string domain
---@return string class "local" or "relay"
---@return table? params
function message:recipient(index) end
--- Whether its envelope holds nothing but addresses of ASCII, each once and of a domain; and, where it does, parameters of MAIL.
---@return boolean bare
---@return table? params
function message:bare() end
--- Number of fields. Nil and a reason when the header block is too long to look at.
---@return integer? count
---@return string? why
function message:field_count() end
---@return string name
---@return string value unfolded
---@return string raw
function message:field(index) end
---@param from? integer default 1
---@return integer? index
function message:find(name, from) end
--- 1 = on top; field_count()+1 = at the end. Raises on a name or value that may not stand in a header.
function message:insert(at, name, value) end
function message:replace(index, value) end
function message:remove(index) end
--- The message as it stands, edits in place.
---@param received? boolean with our Received field on top
---@return string? octets
---@return string? why
function message:octets(received) end
--- Some of the message as it stands, from octet `offset` (0-based) on; "" at the end.
function message:read(offset, most) end
---@return integer hops number of Received fields
function message:hops() end
---@return boolean
function message:delivered_to(address) end
--- Deliveries start at once over the message as it stands and call done(outcome) later, exactly once:
--- outcome = { ok: boolean, error?: string (name of base/error.h), why?: string, path?: string, status?: integer, signal?: integer, output?: string }
---@param options { folder: string, extra: string, create: boolean, mode?: integer, host: string, crlf?: boolean }
function message:maildir(worker, options, done) end
---@param options { path: string, extra: string, mbox: boolean, create: boolean, mode?: integer, sender: string, crlf?: boolean }
function message:file(worker, options, done) end
---@param options { args: string[], env?: string[], cwd?: string, timeout: number, extra: string, crlf?: boolean }
function message:pipe(worker, options, done) end
--- Ends what deliveries of it wait for, a program or the lock of an mbox: they report "CANCELLED".
function message:cancel() end
--- How many octets stand in front of the body, edits and the empty line among them.
---@return integer? size
---@return string? why
function message:header_size() end
--- Begins to write another body for it; the header stays. Nobody may be reading the message meanwhile.
---@param worker moonpost.core.worker
---@return moonpost.core.rewrite? rewrite
---@return string? why
function message:rewrite(worker) end
--- The Received field as it will be written.
---@return string
function message:received() end

---@class moonpost.core.wire the peer's end of a connection without a socket
local wire = {}
function wire:send(octets) end
function wire:eof() end
--- The connection is lost, as by a reset: the peer is gone, which an end of file alone does not say.
function wire:lose() end
--- What the server has written since the last call.
---@return string
function wire:receive() end
---@return boolean closed by the server
function wire:closed() end
--- Test only: as if a TLS handshake had been done, with these facts.
function wire:tls(facts) end

return core
