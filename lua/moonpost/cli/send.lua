--- moonpost send: one message from the command line, and what became of it for each recipient.
local attempt = require "moonpost.attempt"
local client_options = require "moonpost.client_options"
local compose = require "moonpost.compose"
local core = require "moonpost.core"
local destination = require "moonpost.destination"
local dialogue = require "moonpost.cli.dialogue"
local json = require "moonpost.json"
local mail_of = require "moonpost.mail"
local suggest = require "moonpost.suggest"
local tlspolicy = require "moonpost.tlspolicy"
local units = require "moonpost.units"

local M = {}

-- sysexits(3)
local USAGE, DATA, NOINPUT, UNAVAILABLE, TEMPFAIL = 64, 65, 66, 69, 75
M.misuse = USAGE

M.usage = "send --from ADDRESS --to ADDRESS [OPTION...] (--body TEXT | --file PATH | -)"
M.help = [[
Sends one message, to the mail exchangers of each recipient's domain or, with --via, to one server, and prints what became
of it for each recipient.

  moonpost send --from me@example.org --to you@example.net --subject Hi --body "How are you?"
  moonpost send --from me@example.org --to you@example.net --via submission://smtp.example.org --auth-user me --file message.eml
  df -h | moonpost send --from cron@example.org --to root@example.org --subject Disks -

What --file or standard input (-) holds is a whole message when it begins with header fields and there is no --subject, and
is sent as it stands, with the fields of --header on top. Otherwise it is text, UTF-8, and gets a header.

A password is never an argument: it is the first line of --auth-password-file, or the environment's MOONPOST_PASSWORD, or is
asked for on the terminal. A bearer token is that of --auth-token-file or MOONPOST_TOKEN.

Exit status: 0 everybody's was delivered; 75 somebody's was not, and may be when it is sent again; 69 somebody's was not, and
will not be; 64 the command line is wrong, 65 the message is, 66 a file cannot be read. Where some failed for now and others
for good it is 75: sending again, to those whose row says deferred or unknown, is still of use to them.]]

local function level(text)
  for _, known in ipairs(tlspolicy.levels) do
    if text == known then
      return text
    end
  end
  local levels = table.concat(tlspolicy.levels, ", ", 1, #tlspolicy.levels - 1) .. " or " .. tlspolicy.levels[#tlspolicy.levels]
  return nil, nil, ("%s expected, got %q%s"):format(levels, text, suggest.hint(text, tlspolicy.levels))
end

local function readable(path)
  local file = io.open(path, "r")
  if file then
    file:close()
  end
  return file and path, "a file or folder that can be read"
end

M.options = {
  { name = "from", value = "ADDRESS", doc = 'the sender, who hears of failures; "" is nobody' },
  { name = "to", value = "ADDRESS", many = true, doc = "a recipient; may be repeated" },
  { name = "cc", value = "ADDRESS", many = true, doc = "a recipient too, whom a text's header names as Cc" },
  { name = "bcc", value = "ADDRESS", many = true, doc = "a recipient too, whom no header names" },
  {
    name = "via", value = "URL",
    doc = "the server that takes it: smtp://host:25, submission://host,\nsmtps://host, lmtp://unix:/path; user@host names a user to log in as",
  },
  { name = "subject", value = "TEXT", doc = "UTF-8; what is read is text then, whatever it begins with" },
  { name = "header", value = "FIELD", many = true, doc = '"Name: value", one more header field; may be repeated' },
  { name = "body", value = "TEXT", doc = "the text" },
  { name = "file", value = "PATH", doc = "the text, or a whole message; - is standard input" },
  {
    name = "tls", value = "LEVEL", parse = level,
    doc = "none, opportunistic, required, verified or dane; with a user verified, else opportunistic",
  },
  { name = "ca", value = "FILE", doc = "authorities to believe instead of the system's; a file or folder", parse = readable },
  { name = "auth-user", value = "USER", doc = "log in as this user" },
  { name = "auth-password-file", value = "FILE", doc = "the password is its first line" },
  {
    name = "auth-token-file", value = "FILE",
    doc = "a bearer token is its first line, for XOAUTH2 and OAUTHBEARER, in the\nplace of a password",
  },
  { name = "auth-in-clear", value = "MECHANISM", many = true, doc = "may be used without TLS; may be repeated" },
  { name = "helo", value = "NAME", doc = "what we call ourselves (the machine's name)" },
  { name = "source", value = "IP", many = true, doc = "connect from this address; one of each family" },
  { name = "timeout", value = "TIME", parse = units.duration, doc = "no step takes longer; else as RFC 5321 says" },
  { name = "json", doc = "a JSON object per recipient, one a line, instead of the table" },
  { name = "verbose", short = "v", doc = "show the dialogue, on standard error, secrets starred" },
}
M.operands = { "INPUT?" }

local function fail(code, why)
  return { code = code, why = why }
end

-- ---- the message ---------------------------------------------------------------------------------------------------

-- True when every line as far as the first empty one is a header field, or goes on with one (RFC 5322 2.2).
local function begins_with_header(octets)
  local at, any = 1, false
  while at <= #octets do
    local line, after = octets:match("^([^\n]*)\n?()", at)
    line = line:gsub("\r$", "")
    if line == "" then
      return any
    elseif not line:find("^[\x21-\x39\x3b-\x7e]+[ \t]*:") and not (any and line:find("^[ \t]")) then
      return false
    end
    any, at = true, after
  end
  return any
end

local function read(path)
  if path == "-" then
    return io.read("a") or ""
  end
  local file, why = io.open(path, "rb")
  local octets
  if file then
    octets, why = file:read("a") -- a folder opens, but cannot be read
    why = why and ("%s: %s"):format(path, why)
    file:close()
  end
  return octets, why
end

-- The text, or nil and the octets of a message that stands; or nil, nil and what is wrong.
local function content(args)
  local given = {}
  for _, name in ipairs { "body", "file", "INPUT" } do
    given[#given + 1] = args[name] and name
  end
  if #given > 1 then
    return nil, nil, fail(USAGE, "one of --body, --file and - says what to send")
  elseif not given[1] then
    return nil, nil, fail(USAGE, "what to send is missing: --body TEXT, --file PATH, or - for standard input")
  elseif args.INPUT and args.INPUT ~= "-" then
    return nil, nil, fail(USAGE, ("unexpected argument %q: --to %s, or --file %s?"):format(args.INPUT, args.INPUT, args.INPUT))
  elseif args.body then
    return args.body
  end
  local octets, why = read(args.file or "-")
  if not octets then
    return nil, nil, fail(NOINPUT, why)
  elseif not args.subject and begins_with_header(octets) then
    return nil, octets
  end
  return octets
end

-- Fields on top of a message that stands.
local function on_top(fields, octets)
  local out = {}
  local why = compose.more_fields(out, fields or {}, {})
  if why then
    return nil, why
  end
  return table.concat(out) .. octets
end

local function message(args)
  local text, octets, failure = content(args)
  if failure then
    return nil, failure
  end
  local mail = { from = args.from, to = args.to, cc = args.cc, bcc = args.bcc }
  if octets then
    local why
    mail.message, why = on_top(args.header, octets)
    if not mail.message then
      return nil, fail(USAGE, why)
    end
  elseif not utf8.len(text) then
    return nil, fail(DATA, "the text is not UTF-8; a message with a header of its own is sent as it stands")
  else
    mail.text, mail.subject, mail.headers = text, args.subject, args.header
  end
  local prepared, why = mail_of.prepare(mail)
  if not prepared then
    return nil, fail(USAGE, why)
  end
  return prepared
end

-- ---- the way -------------------------------------------------------------------------------------------------------

local function first_line(path)
  local file, why = io.open(path, "r")
  local line
  if file then
    line, why = file:read("l"), path .. ": it is empty, or a folder"
    file:close()
  end
  return line and line:gsub("\r$", ""), fail(NOINPUT, why)
end

-- What proves the user: password or token, one of them nil.
local function secret_of(args, user)
  local password_file, token_file = args["auth-password-file"], args["auth-token-file"]
  if password_file and token_file then
    return nil, nil, fail(USAGE, "one of --auth-password-file and --auth-token-file says who it is")
  elseif token_file then
    local token, failure = first_line(token_file)
    return nil, token, failure
  elseif password_file then
    local password, failure = first_line(password_file)
    return password, nil, failure
  end
  local password, token = os.getenv "MOONPOST_PASSWORD", os.getenv "MOONPOST_TOKEN"
  if not password and not token then
    password = core.read_secret(("Password of %s: "):format(user))
  end
  return password or nil, not password and token or nil,
    fail(USAGE, "a password is needed: --auth-password-file FILE, or MOONPOST_PASSWORD in the environment")
end

-- Options of a connection, and the `auth` in them.
local function way(args, trace)
  local options = {
    helo = args.helo, source = args.source, trace = trace,
    tls = (args.tls or args.ca) and { level = args.tls, ca = args.ca } or nil,
  }
  local user = args["auth-user"]
  if args.via then
    local to, why = destination.parse(args.via)
    if not to then
      return nil, fail(USAGE, "via: " .. why)
    elseif to.password then
      return nil, fail(USAGE, "via: a password is never an argument, other users can read those: --auth-password-file FILE")
    elseif to.user and user then
      return nil, fail(USAGE, "auth-user: the URL of --via names a user already")
    end
    options.via, user = destination.show(to), user or to.user
  elseif user then
    return nil, fail(USAGE, "auth-user: it needs --via; mail exchangers get no password")
  end
  if user then
    local password, token, failure = secret_of(args, user)
    if not password and not token then
      return nil, failure
    end
    options.auth = { user = user, password = password, token = token, in_clear = args["auth-in-clear"] }
  else
    for _, name in ipairs { "auth-password-file", "auth-token-file", "auth-in-clear" } do
      if args[name] then
        return nil, fail(USAGE, name .. ": --auth-user is missing")
      end
    end
  end
  if args.timeout then
    options.timeouts = {}
    for _, field in ipairs(client_options.timeouts) do
      options.timeouts[field.name] = math.min(args.timeout, units.duration(field.default))
    end
  end
  local settings, why = client_options.settings(options, "the command line")
  if not settings then
    return nil, fail(USAGE, why)
  end
  return settings
end

-- ---- what became of it ---------------------------------------------------------------------------------------------

local function status(rows)
  local code = 0
  for _, row in ipairs(rows) do
    if not row.ok and (row.state ~= "refused" or code == 0) and code ~= TEMPFAIL then
      code = row.state == "refused" and UNAVAILABLE or TEMPFAIL
    end
  end
  return code
end

local function show_json(rows)
  for _, row in ipairs(rows) do
    local reply, tls = row.reply, row.tls
    print(json.encode {
      address = row.address, ok = row.ok, state = row.state, stage = row.stage, host = row.host, ip = row.ip, own = row.own or false,
      code = reply.code, enhanced = reply.enhanced, text = reply.text,
      tls = tls and {
        used = tls.used, version = tls.version, cipher = tls.cipher, verified = tls.verified, how = tls.how, why = tls.why,
        policy = tls.policy,
      },
    })
  end
end

local function where(row)
  if not row.host or row.own and not row.ip then
    return "" -- what we say of a host names it
  end
  local ip = row.ip and row.ip ~= row.host and (" [%s]"):format(row.ip) or ""
  return ("  (%s%s, %s)"):format(row.host, ip, row.tls and row.tls.used and dialogue.tls(row.tls) or "in clear")
end

local function show(rows)
  local width = 0
  for _, row in ipairs(rows) do
    width = math.max(width, utf8.len(row.address) or #row.address)
  end
  for _, row in ipairs(rows) do
    local pad = (" "):rep(width - (utf8.len(row.address) or #row.address))
    local said = row.own and tostring(row.reply):gsub("auth%.in_clear names", "--auth-in-clear names") or tostring(row.reply)
    print(dialogue.clean(("%-9s  %s%s  %s%s"):format(row.state, row.address, pad, said, where(row))))
  end
end

local function complain(failure)
  local why = failure.why
  if failure.code == USAGE then -- what the library calls by its names is called by ours
    why = why:gsub("^headers:", "header:"):gsub("^tls%.ca:", "ca:"):gsub("^Subject:", "subject:"):gsub("^auth%.in_clear:", "auth-in-clear:")
    local name = why:match("^([%w-]+):")
    for _, option in ipairs(M.options) do
      if option.name == name then
        why = "--" .. why
      end
    end
  end
  io.stderr:write("moonpost: send: ", dialogue.clean(why), "\n",
    failure.code == USAGE and "`moonpost help send` explains\n" or "")
  return failure.code
end

function M.run(args)
  for _, name in ipairs { "from", "to" } do
    if not args[name] then
      return complain(fail(USAGE, ("--%s is missing: --%s ADDRESS"):format(name, name)))
    end
  end
  local trace, finish
  if args.verbose then
    trace, finish = dialogue.new(function(line)
      io.stderr:write(line, "\n")
    end)
  end
  local mail, failure = message(args)
  if not mail then
    return complain(failure)
  end
  mail.settings, failure = way(args, trace)
  if not mail.settings then
    return complain(failure)
  end
  local result, err = require("moonpost.send").prepared(attempt.once, mail)
  local rows = (result or err).recipients
  if finish then
    finish()
  end
  if args.json then
    show_json(rows)
  else
    show(rows)
  end
  return status(rows)
end

return M
