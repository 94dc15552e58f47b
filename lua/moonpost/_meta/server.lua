---@meta moonpost.server
-- A server: its options, its hooks, its methods. Durations are "5m" or seconds, sizes "50MB" or octets.

---@alias moonpost.Duration string|number
---@alias moonpost.Size string|integer

--- What a hook returns. Nothing: no opinion, the next one is asked. true: this chain ends, and has no objection. A code
--- with its texts: this reply. Anything else is a fault: 451, and a line in the log.
---@alias moonpost.Verdict nil|true|integer|moonpost.Reply

---@class moonpost.ServerOptions
---@field hostname? string our name, in banner, Received and replies
---@field banner? string text behind the host name in the banner
---@field listen string|moonpost.ListenerOptions|(string|moonpost.ListenerOptions)[] "smtp://0.0.0.0:25", ...
---@field domains? string[]|string whose recipients are ours; ".example.org" for what is below it, "*" for every one
---@field relay? moonpost.RelayOptions who may send to anybody
---@field tls? moonpost.TlsOptions|"development"|false
---@field xclient? string[]|string networks whose XCLIENT is believed
---@field proxy? string[]|string networks whose connections start with a PROXY header
---@field detail_separator? string between mailbox and detail: "+"; "" = there are no details
---@field grace? moonpost.Duration for busy sessions when the server stops, for all when the policy is loaded anew: "30s"
---@field limits? moonpost.Limits
---@field mechanisms? string[]|string SASL mechanisms
---@field auth_in_clear? boolean AUTH without TLS
---@field extensions? table { "DSN", CHUNKING = false }
---@field queue? moonpost.Queue by which mail goes on
---@field lax? string[]|string well-known laxities to accept
---@field early? "refuse"|"tolerate" who talks before it is time
---@field bare? "trusted"|"repair"|"refuse" bare CR and LF in a message
---@field long_lines? "accept"|"refuse" lines of a message over limits.line
---@field tolerate_injection? boolean plaintext behind STARTTLS is thrown away; else it ends the session
---@field priority_profile? string that MT-PRIORITY is announced with: "MIXER", "STANAG4406", "NSEP"

---@class moonpost.ListenerOptions
---@field [1]? string the URL
---@field url? string the URL
---@field name? string what hooks see as session.listener
---@field tls? "off"|"optional"|"required"
---@field auth? "off"|"optional"|"required"
---@field mode? string permissions of a unix socket: "0660"
---@field mechanisms? string[]|string
---@field auth_in_clear? boolean
---@field extensions? table
---@field lax? string[]|string
---@field early? "refuse"|"tolerate"
---@field bare? "trusted"|"repair"|"refuse"
---@field long_lines? "accept"|"refuse"
---@field proxy? string[]|string networks whose connections start with a PROXY header
---@field tolerate_injection? boolean
---@field priority_profile? string

---@class moonpost.RelayOptions
---@field networks? string[]|string
---@field authenticated? boolean

---@class moonpost.TlsOptions
---@field certificate string PEM file, leaf first
---@field key? string PEM file; in the certificate's file when left out
---@field sni? table<string, { certificate: string, key?: string }>
---@field min_version? "1.2"|"1.3"|"1.1"|"1.0"
---@field ciphers? string of TLS 1.2, in OpenSSL's form
---@field ciphersuites? string of TLS 1.3, in OpenSSL's form
---@field client? "off"|"ask"|"require" certificates of clients
---@field client_ca? string file or folder of their authorities
---@field tickets? boolean

--- docs/limits.md says what each is for, its default and its reply.
---@class moonpost.Limits
---@field size? moonpost.Size
---@field overrun? moonpost.Size
---@field recipients? integer
---@field messages? integer
---@field errors? integer
---@field refused_recipients? integer
---@field auth_failures? integer
---@field idle_commands? integer
---@field envelope? moonpost.Size
---@field line? moonpost.Size
---@field header? moonpost.Size
---@field fields? integer
---@field hops? integer
---@field command_time? moonpost.Duration
---@field line_time? moonpost.Duration
---@field data_time? moonpost.Duration
---@field data_rate? integer
---@field session_time? moonpost.Duration
---@field handshake_time? moonpost.Duration
---@field auth_delay? moonpost.Duration
---@field greet_delay? moonpost.Duration
---@field hold? moonpost.Duration
---@field by? moonpost.Duration
---@field scram_iterations? integer
---@field connections? integer
---@field connections_per_address? integer
---@field write? moonpost.Size
---@field buffers? moonpost.Size
---@field body_memory? moonpost.Size
---@field bodies? moonpost.Size
---@field hook_time? moonpost.Duration
---@field message_time? moonpost.Duration
---@field cpu_time? moonpost.Duration
---@field memory? moonpost.Size

---@class moonpost.Credentials what is known of a user; at least one of password, hash and scram
---@field password? string in clear: serves every password mechanism
---@field hash? string crypt(3): serves PLAIN and LOGIN
---@field scram? string|string[] RFC 5803 "SCRAM-SHA-256$4096:salt$stored:server"
---@field senders? string[]|string addresses that are the user's: "a@b", "@domain", "*"

--- The hooks, each a slot that may be set once.
---@class moonpost.Hooks
---@field start? fun(server: moonpost.Server) the generation begins; an error fails the start
---@field connect? fun(session: moonpost.Session): moonpost.Verdict, string?, string?
---@field tls? fun(session: moonpost.Session) the handshake is done
---@field helo? fun(session: moonpost.Session, name: string, esmtp: boolean): moonpost.Verdict, string?, string?
---@field credentials? fun(session: moonpost.Session, user: string, mechanism: string): moonpost.Credentials|integer|nil, string?, string?
---@field auth? fun(session: moonpost.Session, user: string, password: string, mechanism: string): boolean|integer|nil, any, string?
---@field token? fun(session: moonpost.Session, user: string, token: string, mechanism: string): boolean|integer|nil, any, string?
---@field mail? fun(session: moonpost.Session, sender: moonpost.Sender): moonpost.Verdict, string?, string?
---@field rcpt? fun(session: moonpost.Session, recipient: moonpost.Recipient): moonpost.Verdict, string?, string?
---@field data? fun(session: moonpost.Session): moonpost.Verdict, string?, string? before 354
---@field message? fun(session: moonpost.Session, message: moonpost.Message): moonpost.Verdict, string?, string?
---@field reset? fun(session: moonpost.Session)
---@field quit? fun(session: moonpost.Session)
---@field disconnect? fun(session: moonpost.Session, why: string)
---@field retire? fun(server: moonpost.Server) the generation ends

--- A table of hooks that is asked before the slots.
---@class moonpost.Plugin: moonpost.Hooks
---@field name? string

---@class moonpost.Address where a server listens
---@field name string
---@field scheme string
---@field protocol "smtp"|"submission"|"lmtp"
---@field url string
---@field ip? string
---@field port? integer
---@field path? string

---@class moonpost.Server
---@field on moonpost.Hooks
---@field options table the effective options
---@field addresses moonpost.Address[] while it serves: ports that were left to the system among them
local Server = {}

--- Asks a plug-in's hooks before the slots of server.on, after those of plug-ins that were used before.
---@param plugin moonpost.Plugin
---@param how? { listeners?: string[]|string } only sessions of these listeners
function Server:use(plugin, how) end

--- The effective configuration: a row for each option. `source` is "default" or the place in the policy.
---@return { option: string, value: string, source: string, doc?: string }[]
function Server:describe() end

--- A row for each hook that somebody has, with those who are asked, in order.
---@return { hook: string, chain: string[] }[]
function Server:chains() end

--- Starts, serves until SIGTERM or SIGINT, and stops: busy peers finish within `grace`, a second signal stops at once.
--- SIGHUP loads the certificates anew. Raises when it cannot start.
---@return true
function Server:run() end

--- Starts serving and returns at once. Everything is closed again when something fails.
---@param how? table for who runs several workers, or none
---@return boolean? ok
---@return moonpost.Error? err
function Server:start(how) end

--- Stops: no new connections, idle peers are told 421, busy ones finish for `grace`. Waits until the last is gone.
---@async
---@param grace? moonpost.Duration the option `grace` when left out
function Server:stop(grace) end

--- Binds the endpoints, for this process. start() does so when it is not given bindings.
---@param workers? integer how many threads will serve them
---@return userdata[]? bindings
---@return moonpost.Error? err
function Server:bind(workers) end

--- Loads the certificates anew, for sessions to come. Those that are open keep theirs.
---@return boolean? ok
---@return moonpost.Error? err the old ones stay
function Server:reload_certificates() end

return Server
