--- The text of a set's fields (RFC 8617 4.1).
local authres = require "moonpost.authres"
local core = require "moonpost.core"

local M = {}

local COLUMNS = 76
local DIGITS = 900 -- of base64 on a line: others seal a signature of any usual key as one word, and lines have 998 octets (RFC 5322 2.1.1)

--- What is signed when nobody says: what DKIM signs, and its signatures, for they say what was there (RFC 8617 4.1.2).
M.HEADERS = "From:Sender:Reply-To:Subject:Date:Message-ID:To:Cc:In-Reply-To:References:MIME-Version:Content-Type:"
  .. "Content-Transfer-Encoding:Resent-From:Resent-Sender:Resent-To:Resent-Cc:Resent-Date:Resent-Message-ID:List-ID:List-Help:"
  .. "List-Unsubscribe:List-Unsubscribe-Post:List-Subscribe:List-Post:List-Owner:List-Archive:DKIM-Signature"

-- Tags in the order of their names, folded.
local function tags_text(tags, name)
  local list = {}
  for tag in pairs(tags) do
    list[#list + 1] = tag
  end
  table.sort(list)
  local lines, line = {}, name .. ":"
  local function put(word, fold)
    if fold or #line + 1 + #word > COLUMNS then
      lines[#lines + 1], line = line, "\t" .. word
    else
      line = line .. (line:find "^%s*$" and "" or " ") .. word
    end
  end
  for i, tag in ipairs(list) do
    local stop = i < #list and ";" or ""
    if tag == "h" then
      local word = "h="
      for one in tags.h:gmatch "[^:]+" do -- folded at its colons
        if #word + #one + 1 > COLUMNS - 8 then
          put(word)
          word = ""
        end
        word = word .. one .. ":"
      end
      put((word:gsub(":$", "")) .. stop)
    else
      put(("%s=%s%s"):format(tag, tags[tag], stop), tag == "b") -- what is signed has the line end already
    end
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\r\n")
end

--- A field that waits for its signature.
---@param name string
---@param common table<string, string> tags
---@param more table<string, string> tags of this field alone
---@return table field { name, own = as it is signed, value = without a signature }
function M.field(name, common, more)
  local tags = { b = "" }
  for _, from in ipairs { common, more } do
    for tag, value in pairs(from) do
      tags[tag] = value
    end
  end
  local own = tags_text(tags, name)
  return { name = name, own = own, value = own:sub(#name + 2):gsub("^%s+", "") }
end

--- Puts the signature where it belongs.
---@param field table
---@param signature string base64
function M.sign(field, signature)
  local lines = {}
  for at = 1, #signature, DIGITS do
    lines[#lines + 1] = signature:sub(at, at + DIGITS - 1)
  end
  local before, after = field.value:match "^(.-%f[%w]b=)(;.*)$"
  field.value = before .. table.concat(lines, "\r\n\t ") .. after
end

-- Behind the first ";" that is in no quoted string and no comment.
local function behind_id(value)
  local depth, quoted, at = 0, false, 1
  while at <= #value do
    local octet = value:sub(at, at)
    if octet == "\\" then
      at = at + 1
    elseif quoted or octet == '"' then
      quoted = quoted ~= (octet == '"')
    elseif octet == "(" or octet == ")" then
      depth = math.max(0, depth + (octet == "(" and 1 or -1))
    elseif octet == ";" and depth == 0 then
      return value:sub(at + 1)
    end
    at = at + 1
  end
  return ""
end

--- What the ARC-Authentication-Results say: the results that are given, else all that this message's Authentication-Results of ours say.
---@param values table options of arc.seal
---@param fields moonpost.core.dkim_fields
---@return { text: string, arc: string? } words
function M.results(values, fields)
  local id, given = values.authserv_id, values.results
  if type(given) == "string" then
    return { text = ("%s; %s"):format(id, (given:gsub("^%s+", ""):gsub("[%s;]+$", ""))) }
  elseif given then
    return { text = authres.format { id = id, results = given } }
  end
  local list, arc = {}, nil
  local mine = (core.dns_name(id) or id):lower()
  for _, raw in ipairs(fields:list "Authentication-Results") do
    local value = raw:match ":(.*)$"
    local parsed = core.authres(value)
    if parsed and parsed.id and (core.dns_name(parsed.id) or parsed.id):lower() == mine then
      local text = behind_id(value):gsub("^%s+", ""):gsub("[%s;]+$", "")
      if text ~= "" and text ~= "none" then
        list[#list + 1] = text
      end
      for _, one in ipairs(parsed.results or {}) do
        if one.method == "arc" and (one.result == "none" or one.result == "pass" or one.result == "fail") then
          arc = arc or one.result
        end
      end
    end
  end
  return { text = ("%s; %s"):format(id, list[1] and table.concat(list, ";\r\n\t") or "none"), arc = arc }
end

return M
