--- What people have said of a site while the process runs: that it is suspended, that it is to be tried again, other limits. A site is one worker's;
--- orders are for all of them, so they stand in a table that workers and generations share, and end with the process.
local plain = require "moonpost.plain"
local shared = require "moonpost.shared"

local M = {}

local ORDERS = "orders"

local function table_of(queue)
  queue._orders = queue._orders or shared.open("moonpost.queue " .. queue.spool:sub(-200), { memory = "1MiB", entries = 16 })
  return queue._orders
end

--- Everything that has been said, by the name of the site; and its text, which is another one when something was said.
---@param queue moonpost.Queue
---@return table<string, { suspended?: boolean, resumed?: number, limits?: table }>
---@return string text
function M.all(queue)
  local text = table_of(queue):get(ORDERS) or ""
  if text ~= queue._orders_text then
    queue._orders_text, queue._orders_known = text, text ~= "" and plain.decode(text) or {}
  end
  return queue._orders_known, text
end

--- What has been said of a site.
---@param queue moonpost.Queue
---@param name string
---@return { suspended?: boolean, resumed?: number, limits?: table }
function M.of(queue, name)
  return M.all(queue)[name] or {}
end

--- Says something of a site, by `fn(order)`; the caller tells the workers.
---@param queue moonpost.Queue
---@param name string
---@param fn fun(order: table)
---@return boolean? ok
---@return string? why
function M.say(queue, name, fn)
  local all = plain.decode(plain.encode(M.all(queue)))
  local order = all[name] or {}
  fn(order)
  all[name] = next(order) and order or nil
  return table_of(queue):set(ORDERS, plain.encode(all))
end

return M
