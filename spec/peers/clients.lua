--- The little clients in spec/peers/clients: each is asked in JSON and answers a line of JSON for each mail.
local dkjson = require "dkjson"
local json = require "moonpost.json"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local M = {}

local folder = require("luv").cwd() .. "/spec/peers/clients/"

local function answers(result)
  assert(result.code == 0, result.output)
  local list = {}
  for line in result.out:gmatch("[^\n]+") do
    list[#list + 1] = assert(dkjson.decode(line), line)
  end
  return list
end

--- Sends one mail by Python's smtplib.
---@return table answer
function M.python(ask)
  return answers(process.run { peers.python3, folder .. "send.py", json.encode(ask), timeout = 60 })[1]
end

--- What Python's email package makes of a message.
---@param octets string
---@return table answer
function M.parse(octets)
  return answers(process.run { peers.python3, folder .. "parse.py", stdin = octets, timeout = 60 })[1]
end

--- Sends mails by nodemailer.
---@return table[] answers
function M.node(ask)
  return answers(process.run { peers.node, folder .. "send.js", json.encode(ask), env = peers.node_env, timeout = 60 })
end

return M
