---@meta
--- Connections that we make, as moonpost.core has them: dialling, streams, clients of SMTP and LMTP.

---@class moonpost.core.dial
local dial = {}
--- Nobody is told any more.
function dial:cancel() end

---@class moonpost.core.stream connected, and nobody's yet
local stream = {}
function stream:close() end

--- Operations return true, or nil, why and the name of the error when they were not begun ("INVALID" for what may never be written, "MISUSE" while
--- another is under way, "CLOSED"). Their end is told to `on`, never inside the call.
---@class moonpost.core.client
local client = {}
--- EHLO, then HELO; or LHLO.
function client:hello() end
--- STARTTLS and the handshake; false: without one, for tests.
---@param opts table|false of moonpost.client_tls
function client:starttls(opts) end
---@param login { user?: string, password?: string, token?: string, authzid?: string, mechanisms?: string[], in_clear?: string[], host?: string, port?: integer }
function client:auth(login) end
---@param line string
function client:command(line) end
function client:rset() end
function client:noop() end
---@param what string
function client:vrfy(what) end
function client:quit() end
--- A whole transaction. The tables must stay as they are until it is over. A body is a string; a received message, with our Received field when `received`
--- and lines in front of it; or nil: pieces are asked for by "want".
---@param mail { from: string, from_ascii?: string, to: string|(string|{ address: string, ascii?: string, params?: table })[], params?: table }
---@param body? string|moonpost.core.message
---@param received? boolean
---@param extra? string
function client:send(mail, body, received, extra) end
--- The same transaction for those of its recipients that had no room ("again").
---@param body? string|moonpost.core.message
---@param received? boolean
---@param extra? string
function client:again(body, received, extra) end
--- MAIL alone.
---@param mail table
function client:mail(mail) end
--- RCPT alone, for one of mail's recipients.
---@param index integer
function client:rcpt(index) end
--- DATA or BDAT, and the body.
---@param body? string|moonpost.core.message
---@param received? boolean
---@param extra? string
function client:data(body, received, extra) end
--- A piece of a body that "want" asked for.
---@param octets string
---@param last boolean
function client:body(octets, last) end
--- The body cannot be had: the connection ends.
function client:body_failed() end
--- What became of a recipient of the transaction under way or the last one.
---@param index integer
---@return "none"|"accepted"|"delivered"|"refused"|"deferred"|"unknown"|"again" state
---@return "none"|"mail"|"rcpt"|"data"|"body"|"connection" stage
---@return integer? code
---@return string? enhanced
---@return string? text
---@return boolean own the reply is ours
---@return boolean dsn_lost
function client:result(index) end
--- What the peer announced.
---@return { name: string, lines: string, size: integer, extensions: table<string, true>, mechanisms: string[] }?
function client:caps() end
---@return boolean esmtp
---@return string? mechanism
---@return boolean spent no further transaction
function client:facts() end
---@return table? facts nil in clear
function client:tls() end
---@return string? ip nothing over a unix socket
---@return integer? port
---@return string? local_ip
---@return integer? local_port
function client:peer() end
---@return boolean
function client:is_open() end
--- Drops the connection; nobody is told.
function client:close() end
--- QUIT when nothing is under way, and the end without telling anybody.
function client:leave() end
