--- Reads curl's test cases (tests/data/testN, described in its FILEFORMAT.md), as far as those of its SMTP client go.
---
---     local case = curl_cases.parse(text, { TESTNUMBER = "900", SMTPPORT = "4001", HOSTIP = "127.0.0.1", LOGDIR = "log" })
---     case.name, case.keywords, case.features        lists of words for the last two
---     case.replies     { commands = { AUTH = "334 go" }, capabilities = { "SIZE" }, mechanisms = { "PLAIN" }, data = "250 ...\r\n" }
---     case.runs        for each URL of the command line { url =, ehlo =, from =, to = {}, user =, ..., upload = "octets" }
---     case.protocol    lines that the client says; case.upload the body as it goes over the wire; case.errorcode curl's
local M = {}

local marks = { CR = "\r", SP = " ", TAB = "\t", AMP = "&", GT = ">", LT = "<" }

local function octets(text)
  return (text:gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(text)
  local out = {}
  for i = 1, #text, 3 do
    local a, b, c = text:byte(i, i + 2)
    local n = a << 16 | (b or 0) << 8 | (c or 0)
    for k = 0, 3 do
      local digit = (n >> (18 - 6 * k) & 63) + 1
      out[#out + 1] = (k == 2 and not b or k == 3 and not c) and "=" or alphabet:sub(digit, digit)
    end
  end
  return table.concat(out)
end
M.base64 = base64

--- Replaces variables, then what makes octets of them, then the marks.
---@param text string
---@param variables table<string, string>
function M.expand(text, variables)
  local names = {}
  for name in pairs(variables) do
    names[#names + 1] = name
  end
  table.sort(names, function(a, b)
    return #a > #b
  end)
  for _, name in ipairs(names) do
    text = text:gsub("%%" .. name, (variables[name]:gsub("%%", "%%%%")))
  end
  text = text:gsub("%%b64%[(.-)%]b64%%", function(inner)
    return base64(octets(inner))
  end)
  text = text:gsub("%%hex%[(.-)%]hex%%", octets)
  text = text:gsub("%%repeat%[(%d+) x (.-)%]%%", function(count, inner)
    return octets(inner):rep(math.tointeger(tonumber(count)))
  end)
  for name, octet in pairs(marks) do
    text = text:gsub("%%" .. name, (octet:gsub("%%", "%%%%")))
  end
  return text
end

local function crlf(text)
  return (text:gsub("\r?\n", "\r\n"))
end

--- The content of a subsection with its attributes obeyed.
local function shaped(content, attributes)
  if attributes:find('crlf="yes"', 1, true) then
    content = crlf(content)
  elseif attributes:find('crlf="headers"', 1, true) then
    local head, rest = content:match("^(.-\n)(\n.*)$")
    content = head and crlf(head) .. "\r\n" .. rest:sub(2) or crlf(content)
  end
  if attributes:find('nonewline="yes"', 1, true) then
    content = content:gsub("\r?\n$", "")
  end
  return content
end

--- Sections and their parts: { client = { { tag =, attributes =, content = }, ... }, ... }
local function sections(text)
  local all, section, part = {}, nil, nil
  for line, ending in text:gmatch("([^\n]*)(\n?)") do
    if part then
      if line == "</" .. part.tag .. ">" then
        part.content = table.concat(part.lines)
        part = nil
      else
        part.lines[#part.lines + 1] = line .. ending
      end
    else
      local slash, tag, attributes = line:match("^<(/?)(%w+)([^>]*)>%s*$")
      if tag and slash == "/" then
        if tag == section then
          section = nil
        end
      elseif tag and (tag == "info" or tag == "reply" or tag == "client" or tag == "verify") and not section then
        section = tag
        all[tag] = all[tag] or {}
      elseif tag and section and tag ~= "testcase" then
        part = { tag = tag, attributes = attributes, lines = {} }
        table.insert(all[section], part)
      end
    end
  end
  return all
end

--- Words as a shell would part them.
local function words(text)
  local list, word, at = {}, nil, 1
  while at <= #text do
    local c = text:sub(at, at)
    if c == "'" or c == '"' then
      local to = assert(text:find(c, at + 1, true), "an open quote")
      word = (word or "") .. text:sub(at + 1, to - 1)
      at = to + 1
    elseif c:find("%s") then
      list[#list + 1], word = word, nil
      at = at + 1
    else
      word = (word or "") .. c
      at = at + 1
    end
  end
  list[#list + 1] = word
  return list
end

local with_value = {
  ["--mail-from"] = "from", ["-T"] = "file", ["-u"] = "login", ["--oauth2-bearer"] = "token", ["--sasl-authzid"] = "authzid",
  ["--login-options"] = "login_options", ["--request"] = "request", ["-X"] = "request", ["-x"] = "proxy", ["-K"] = "config",
  ["--libcurl"] = "libcurl",
}
local without_value = {
  ["--mail-rcpt-allowfails"] = "allowfails", ["--sasl-ir"] = "initial", ["--ssl"] = "ssl", ["-p"] = "tunnel", ["-I"] = "nobody",
}
local repeated = { ["--mail-rcpt"] = "to", ["-F"] = "form", ["-H"] = "header" }

local function runs_of(text)
  local runs, run = {}, { to = {}, form = {}, header = {} }
  local list = words(text)
  local i = 1
  while i <= #list do
    local word = list[i]
    if with_value[word] then
      i = i + 1
      run[with_value[word]] = list[i]
    elseif repeated[word] then
      i = i + 1
      table.insert(run[repeated[word]], list[i])
    elseif without_value[word] then
      run[without_value[word]] = true
    elseif word == "-:" then
      runs[#runs + 1] = run
      run = { to = {}, form = {}, header = {} }
    else
      local rest = assert(word:match("^smtp://(.*)$"), "a word of the command line that is not known: " .. word)
      run.url = word
      local login, host, path = rest:match("^([^@/]*)@([^/]*)/?(.*)$")
      if not login then
        host, path = rest:match("^([^/]*)/?(.*)$")
      end
      run.host, run.ehlo = host, path
      if login then
        run.login, run.login_options = login:match("^([^;]*);?(.*)$")
      end
    end
    i = i + 1
  end
  runs[#runs + 1] = run
  for _, one in ipairs(runs) do
    if one.login then
      one.user, one.password = one.login:match("^([^:]*):?(.*)$")
    end
    if one.login_options then
      one.mechanism = one.login_options:match("AUTH=(.*)$")
    end
  end
  return runs
end

--- What <servercmd> asks of curl's test server: its replies by command, extensions, mechanisms.
local function replies_of(text)
  local replies = { commands = {}, capabilities = {}, mechanisms = {} }
  for line in text:gmatch("[^\n]+") do
    local verb, rest = line:match("^(%u+) (.*)$")
    if verb == "REPLY" then
      local command, reply = rest:match('^"([^"]+)" (.*)$')
      if not command then
        command, reply = rest:match("^(%S+) (.*)$")
      end
      reply = reply:gsub("\\r", "\r"):gsub("\\n", "\n")
      replies.commands[command] = reply
    elseif verb == "CAPA" then
      replies.capabilities = words(rest)
    elseif verb == "AUTH" then
      replies.mechanisms = words(rest)
    else
      error("a server command that is not known: " .. line)
    end
  end
  return replies
end

local function list_of(content)
  local list = {}
  for line in (content or ""):gmatch("[^\n]+") do
    list[#list + 1] = line
  end
  return list
end

--- The body before its dots were stuffed and its end was added.
---@param upload string
function M.unstuffed(upload)
  local body = upload:gsub("\r?\n%.\r?\n$", "\r\n", 1):gsub("^%.%.", "."):gsub("\n%.%.", "\n.")
  return body
end

---@param text string a file of the folder
---@param variables table<string, string>
function M.parse(text, variables)
  local all = sections(text)
  local function part(section, tag)
    for _, one in ipairs(all[section] or {}) do
      if one.tag == tag then
        return shaped(M.expand(one.content, variables), one.attributes)
      end
    end
  end
  local case = {
    name = part("client", "name"):gsub("\n$", ""),
    keywords = list_of(part("info", "keywords")),
    features = list_of(part("client", "features")),
    tool = part("client", "tool") ~= nil,
    replies = replies_of(part("reply", "servercmd") or ""),
    runs = runs_of(part("client", "command")),
    protocol = part("verify", "protocol"),
    upload = part("verify", "upload"),
    errorcode = math.tointeger(tonumber(part("verify", "errorcode") or "0")),
    files = {},
  }
  case.replies.data = part("reply", "data")
  for _, one in ipairs(all.client) do
    if one.tag:find("^file") then
      local name = M.expand(one.attributes, variables):match('name="([^"]*)"')
      case.files[name] = shaped(M.expand(one.content, variables), one.attributes)
    end
  end
  local stdin = part("client", "stdin")
  for _, run in ipairs(case.runs) do
    if run.config then -- one line: name = "value", with escapes
      local value = case.files[run.config]:match('^mail%-from = "(.*)"')
      run.from = value:gsub("\\r", "\r"):gsub("\\n", "\n")
    end
    if run.file then
      run.upload = run.file == "-" and stdin or case.files[run.file]
    elseif #run.form > 0 or case.tool and not stdin then
      run.upload, run.composed = M.unstuffed(case.upload), true -- of parts, which is not what is tried
    else
      run.upload = stdin
    end
    if case.tool then -- what a program says that is not here
      run.from = case.protocol:match("MAIL FROM:<([^>]*)>")
      for to in case.protocol:gmatch("RCPT TO:<([^>]*)>") do
        table.insert(run.to, to)
      end
    end
  end
  return case
end

return M
