---@meta moonpost.client
-- The sending half. docs/sending.md explains it.

--- How a connection is made. Of `host`, `path` (a unix socket) and `url` one is needed, except where mail exchangers are looked for.
---@class moonpost.ConnectOptions
---@field url? string "smtp://relay.example.net:587", "submission://user:secret@smtp.example.net", "lmtp://unix:/run/lmtp.sock"
---@field host? string a name or an address
---@field port? integer by the protocol when left out; without a host, that of mail exchangers
---@field path? string
---@field protocol? "smtp"|"smtps"|"submission"|"submissions"|"lmtp"|"lmtps" "smtp"
---@field helo? string what we call ourselves; the machine's name
---@field tls? moonpost.TlsLevel|moonpost.ClientTls "verified" where credentials are sent, else "opportunistic"
---@field auth? moonpost.Login
---@field source? string|string[] addresses to connect from, one of each family
---@field timeouts? { connect?: moonpost.Duration, handshake?: moonpost.Duration, banner?: moonpost.Duration, hello?: moonpost.Duration, auth?: moonpost.Duration, mail?: moonpost.Duration, rcpt?: moonpost.Duration, data?: moonpost.Duration, block?: moonpost.Duration, final?: moonpost.Duration, quit?: moonpost.Duration, operation?: moonpost.Duration }
---@field trace? fun(direction: "sent"|"received", octets: string, body: integer, client: moonpost.Client) hears everything but secrets; of a body how many octets
---@field dns? moonpost.dns.Resolver
---@field ignore? string[] extensions that are not used
---@field allow_local? boolean mail exchangers on loopback and link-local addresses may be dialled
---@field names? string|string[] our own names: mail exchangers from there on are not tried

---@class moonpost.ClientTls
---@field level? moonpost.TlsLevel
---@field names? string|string[] that its certificate may have; the host's
---@field ca? string file or folder of authorities, instead of the system's
---@field pins? string|string[] SHA-256 fingerprints in hex, any of which is enough
---@field certificate? string ours, PEM
---@field key? string PEM
---@field sni? string
---@field min_version? "1.2"|"1.3"|"1.1"|"1.0"
---@field ciphers? string
---@field ciphersuites? string

---@class moonpost.Login
---@field user? string
---@field password? string
---@field token? string for XOAUTH2 and OAUTHBEARER
---@field authzid? string to act as
---@field mechanisms? string|string[] that may be used; any
---@field in_clear? string|string[] of those that show the secret, which may be used without TLS

--- What is sent.
---@class moonpost.MailOptions
---@field from string "" is the null sender
---@field to string|(string|moonpost.MailRecipient)[]
---@field cc? string|string[]
---@field bcc? string|string[]
---@field reply_to? string|string[]
---@field subject? string
---@field text? string UTF-8
---@field headers? (string|string[])[] "Name: value" or { "Name", "value" }
---@field date? number seconds since 1970
---@field message? string|moonpost.Message|fun(): fun(): string? the octets, in the place of subject and text. A function is called for each
--- attempt and returns an iterator of chunks
---@field size? integer octets of a message that comes in chunks
---@field params? table of MAIL: ret, envid, by, by_mode, by_trace, holdfor, holduntil, priority, requiretls, auth, body, smtputf8
---@field sender? string the reverse-path, where it is not `from`
---@field envelope? { from?: string, to?: string|string[] } in the place of `from` and `to`, which then are header fields alone

---@class moonpost.MailRecipient
---@field address string
---@field params? { notify?: table<string, true>, orcpt?: string, orcpt_type?: string }

---@class moonpost.SendOptions: moonpost.ConnectOptions, moonpost.MailOptions
---@field via? string a smarthost's URL
---@field mtasts? false|moonpost.mtasts.Options|moonpost.mtasts.Finder

---@class moonpost.SendResult
---@field ok true
---@field recipients moonpost.SendRow[]

--- What was promised of a connection, what was used and why: docs/tls-policy.md.
---@class moonpost.TlsFacts
---@field level moonpost.TlsLevel|"refused" what was demanded
---@field policy string what decided it
---@field used boolean
---@field why? string it was not used; or nobody is verified
---@field testing? string what MTA-STS would have said in mode "enforce"
---@field verified? boolean
---@field how? "names"|"pin"|"dane-ta"|"dane-ee"|"none"
---@field version? string
---@field cipher? string
---@field resumed? boolean
---@field subject? string
---@field names? string[] of the certificate
---@field fingerprint? string

--- Milliseconds of each stage that was reached, the last one whatever it came to. What the connection took is told with its first message alone.
---@class moonpost.StageTimes
---@field connect? integer the look-up of its addresses, where it is not an MX, and TCP
---@field banner? integer until its first reply; with TLS from the start the handshake too
---@field ehlo? integer both of them where there are two
---@field tls? integer STARTTLS and the handshake
---@field auth? integer
---@field message? integer from MAIL to the reply to the message

---@class moonpost.Client
---@field host string
---@field ip? string
---@field alive boolean
---@field messages integer sent so far
---@field capabilities { name: string, lines: string, size: integer, extensions: table<string, true>, mechanisms: string[] }
---@field tls moonpost.TlsFacts
---@field user? string
---@field mechanism? string
local Client = {}

--- Sends one message to all its recipients. A result only when every one of them was accepted; else nil and an error with a row per
--- recipient in `recipients`.
---@async
---@param options moonpost.MailOptions
---@return moonpost.SendResult? result
---@return moonpost.Error? err
function Client:send(options) end

--- The same without a verdict, for a message that was prepared.
---@async
---@param mail table
---@return moonpost.SendRow[]
function Client:transact(mail) end

--- EHLO (LHLO) again.
---@async
---@return moonpost.Reply? reply
---@return moonpost.Error? err
function Client:helo() end

--- STARTTLS, and EHLO behind it.
---@async
---@param options? moonpost.TlsLevel|moonpost.ClientTls "required"
---@return moonpost.Reply? reply
---@return moonpost.Error? err
function Client:starttls(options) end

--- AUTH, by the strongest mechanism that both sides know.
---@async
---@param login moonpost.Login
---@return moonpost.Reply? reply
---@return moonpost.Error? err
function Client:auth(login) end

--- MAIL. Recipients are offered by rcpt() and the message sent by data().
---@async
---@param from string
---@param to string|string[] whom rcpt() may offer
---@param params? table
---@return moonpost.Reply? reply
---@return moonpost.Error? err
function Client:mail(from, to, params) end

--- RCPT, for one of those that mail() named.
---@async
---@param address string
---@return moonpost.Reply? reply a refusal is one too
---@return moonpost.Error? err
function Client:rcpt(address) end

--- DATA, or BDAT, and the message.
---@async
---@param message string
---@return moonpost.Reply? reply over LMTP the last recipient's
---@return moonpost.Error? err
function Client:data(message) end

---@async
---@return moonpost.Reply? reply
---@return moonpost.Error? err
function Client:rset() end

---@async
---@return moonpost.Reply? reply
---@return moonpost.Error? err
function Client:noop() end

---@async
---@param what string
---@return moonpost.Reply? reply
---@return moonpost.Error? err
function Client:vrfy(what) end

--- Any line.
---@async
---@param line string
---@return moonpost.Reply? reply
---@return moonpost.Error? err
function Client:raw(line) end

--- QUIT, and the end of the connection.
---@async
---@return moonpost.Reply? reply
---@return moonpost.Error? err
function Client:quit() end

--- QUIT, and waits for nothing.
function Client:leave() end

--- The same in a task; elsewhere it waits for the peer's goodbye.
---@async
function Client:part() end

--- Drops the connection.
function Client:close() end

--- True when no further message may be sent here.
---@return boolean
function Client:spent() end

---@class moonpost.PoolOptions: moonpost.ConnectOptions
---@field via? string
---@field mtasts? false|moonpost.mtasts.Options|moonpost.mtasts.Finder
---@field connections? integer to one destination at a time; 10
---@field per_connection? integer messages; 100, 0 = no limit
---@field idle? moonpost.Duration how long one is kept that nobody uses; "30s"
---@field backlog? integer messages posted and not yet sent; 1000

---@class moonpost.Pool
local Pool = {}

--- Sends one message; waits until every recipient has an outcome.
---@async
---@param mail moonpost.MailOptions
---@return moonpost.SendResult? result
---@return moonpost.Error? err
function Pool:send(mail) end

--- Puts a message into the pool's queue; waits only while that is full.
---@async
---@param mail moonpost.MailOptions
---@param done? fun(result: moonpost.SendResult?, err: moonpost.Error?)
function Pool:post(mail, done) end

--- Waits until everything that was posted has an outcome.
---@async
function Pool:drain() end

--- A connection for one message, for who speaks for himself.
---@async
---@param url? string where to; the pool's own `via` when left out
---@param fresh? boolean not one that was kept
---@return moonpost.Client? client
---@return moonpost.Error? err
function Pool:lease(url, fresh) end

--- Gives a connection back.
---@param one moonpost.Client
function Pool:release(one) end

--- QUIT on idle connections; what is on its way goes on.
function Pool:close() end
