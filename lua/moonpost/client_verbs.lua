--- The steps of a conversation one by one: the methods of a client beside client:send. A refusal is a reply, not an error.
local compose = require "moonpost.compose"
local options_of = require "moonpost.options"
local params_of = require "moonpost.mail_params"
local settings_of = require "moonpost.client_options"
local tls_of = require "moonpost.client_tls"

-- An address as it goes on the wire. What is none may go there too: the steps are for who wants to see what a server says.
local function unwritable(address)
  if type(address) ~= "string" then
    return ("an address expected, got a %s"):format(type(address))
  elseif address:find("[\r\n\0]") then
    return "a line break in an address"
  end
end

--- Puts them among the methods.
---@param Client table
---@param inside table operate, answer, hello, heed, secured, session, explain of moonpost.client
return function(Client, inside)
  local operate, answer, hello, heed = inside.operate, inside.answer, inside.hello, inside.heed
  local secured, session = inside.secured, inside.session

  --- Says EHLO (LHLO) again.
  ---@async
  ---@return moonpost.Reply? reply
  ---@return moonpost.Error? err
  function Client:helo()
    local heard, err = answer(self, "EHLO", operate(self, "EHLO", "hello"))
    if heard and heard.ok and self.alive then
      heed(self)
    end
    return heard, err
  end

  --- STARTTLS, and EHLO behind it.
  ---@async
  ---@param options? string|table as the `tls` option of moonpost.connect; "required" when left out
  ---@return moonpost.Reply? reply
  ---@return moonpost.Error? err
  function Client:starttls(options)
    local tls, why = tls_of.settings(options or "required", false, options_of.place(2))
    if not tls then
      error("client:starttls: " .. why, 2)
    end
    local decision, err = tls_of.settle(tls_of.decide(tls, self.host), self._target.to, self._target.dns)
    if not decision then
      return nil, err
    end
    if self.tls and self.tls.used then
      error("client:starttls: TLS is in use", 2)
    end
    local heard
    heard, err = answer(self, "STARTTLS", operate(self, "STARTTLS", "starttls", session(self, decision, self._target)))
    if heard and heard.ok then
      self.tls, err = secured(self, decision)
      local ok = self.tls
      if ok then
        ok, err = hello(self)
      end
      if not ok then
        self:close()
        return nil, err
      end
    end
    return heard, err
  end

  --- AUTH, by the strongest mechanism that both sides know.
  ---@async
  ---@param login { user: string, password?: string, token?: string, mechanisms?: string[], in_clear?: string[], authzid?: string }
  ---@return moonpost.Reply? reply
  ---@return moonpost.Error? err
  function Client:auth(login)
    if type(login) ~= "table" then
      error(("client:auth: { user =, password = } expected, got a %s"):format(type(login)), 2)
    end
    local values, why = options_of.resolve(settings_of.auth_fields, login, options_of.place(2))
    if values and not (values.password or values.token) then
      values, why = nil, "a password or a token is needed"
    end
    if not values then
      error("client:auth: " .. why, 2)
    end
    local heard, err = answer(self, "AUTH", operate(self, "AUTH", "auth", values))
    if heard and heard.ok then
      self.user, self.mechanism = values.user, select(2, self._core:facts())
    elseif heard then
      inside.explain(self, heard)
    end
    return heard, err
  end

  --- MAIL. Recipients are offered by rcpt() and the message sent by data().
  ---@async
  ---@param from string "" is the null sender
  ---@param to string|string[] whom rcpt() may offer
  ---@param params? table
  ---@return moonpost.Reply? reply
  ---@return moonpost.Error? err
  function Client:mail(from, to, params)
    local list = type(to) == "table" and to or { to }
    local why = unwritable(from) or not list[1] and "to: at least one recipient is needed"
      or params ~= nil and params_of.check_mail(params) or nil
    for _, address in ipairs(list) do
      why = why or unwritable(address)
    end
    if not why and params ~= nil then
      params, why = params_of.complete(params)
    end
    if why then
      error("client:mail: " .. why, 2)
    end
    self._offered = {}
    for i, address in ipairs(list) do
      self._offered[address] = i
    end
    return answer(self, "MAIL", operate(self, "MAIL", "mail", { from = from, to = list, params = params }))
  end

  --- RCPT, for one of those that mail() named.
  ---@async
  ---@param address string
  ---@return moonpost.Reply? reply a refusal is one too
  ---@return moonpost.Error? err
  function Client:rcpt(address)
    local index = self._offered and self._offered[address]
    if not index then
      error(("client:rcpt: %s was not named by client:mail(from, to)"):format(tostring(address)), 2)
    end
    return answer(self, "RCPT", operate(self, "RCPT", "rcpt", index))
  end

  --- DATA, or BDAT, and the message.
  ---@async
  ---@param message string
  ---@return moonpost.Reply? reply over LMTP the last recipient's
  ---@return moonpost.Error? err
  function Client:data(message)
    if type(message) ~= "string" then
      error(("client:data: a string expected, got a %s"):format(type(message)), 2)
    end
    self.messages = self.messages + 1
    return answer(self, "DATA", operate(self, "DATA", "data", message))
  end

  for _, name in ipairs { "rset", "noop" } do
    Client[name] = function(self)
      return answer(self, name:upper(), operate(self, name:upper(), name))
    end
  end

  --- VRFY. A domain goes in A-labels where that makes an address ASCII; what is not ASCII all the same needs SMTPUTF8 (RFC 6531 3.7.4.2).
  ---@async
  ---@param what string
  ---@return moonpost.Reply? reply
  ---@return moonpost.Error? err
  function Client:vrfy(what)
    if type(what) ~= "string" then
      error(("client:vrfy: a string expected, got a %s"):format(type(what)), 2)
    end
    what = compose.ascii(what) or what
    if what:find("[\x80-\xff]") and self.capabilities.extensions.SMTPUTF8 then
      what = what .. " SMTPUTF8"
    end
    return answer(self, "VRFY", operate(self, "VRFY", "vrfy", what))
  end

  --- Any line.
  ---@async
  ---@param line string without its end
  ---@return moonpost.Reply? reply
  ---@return moonpost.Error? err
  function Client:raw(line)
    if type(line) ~= "string" then
      error(("client:raw: a string expected, got a %s"):format(type(line)), 2)
    end
    return answer(self, "command", operate(self, "command", "command", line))
  end

  --- QUIT, and the end of the connection.
  ---@async
  ---@return moonpost.Reply? reply
  ---@return moonpost.Error? err
  function Client:quit()
    local heard, err = answer(self, "QUIT", operate(self, "QUIT", "quit"))
    self.alive = false
    return heard, err
  end
end
