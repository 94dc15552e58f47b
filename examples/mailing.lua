--- A mailing: a letter to everybody in a CSV file, over a few connections at a time.
---
---     MAIL_FROM=news@example.org MAIL_VIA=submission://me:secret@smtp.example.org \
---       lua5.4 examples/mailing.lua examples/mailing.txt people.csv done.csv
---
--- The first line of the CSV names its columns; one is "address". The letter's first line is its subject, the rest behind an
--- empty line its text, and {name} stands for the column "name". What became of each is appended to done.csv, and who is
--- there is left out the next time: start it again for those who were deferred, or after it was stopped.
local moonpost = require "moonpost"

local letter_path, people_path, done_path = ...
local from, via = os.getenv "MAIL_FROM", os.getenv "MAIL_VIA"
if not (from and done_path) then
  io.stderr:write "usage: MAIL_FROM=ADDRESS [MAIL_VIA=URL] mailing.lua LETTER PEOPLE.csv DONE.csv\n"
  os.exit(64)
end

local function read(path)
  local file <close> = assert(io.open(path, "r"))
  return (file:read("a"):gsub("^\xef\xbb\xbf", ""):gsub("\r\n", "\n"))
end

-- Records of a CSV file (RFC 4180), each a list: fields in quotes may hold commas, line breaks and doubled quotes.
local function records(text)
  local at = 1
  return function()
    local record = {}
    while at <= #text do
      local field, after
      if text:sub(at, at) == '"' then
        local to = at
        repeat
          to = assert(text:find('"', to + 1, true), "a field in quotes does not end")
          local doubled = text:sub(to + 1, to + 1) == '"'
          to = doubled and to + 1 or to
        until not doubled
        field, after = text:sub(at + 1, to - 1):gsub('""', '"'), to + 1
      else
        field, after = text:match("^([^,\n]*)()", at)
      end
      record[#record + 1] = field
      at = after + 1
      if text:sub(after, after) ~= "," then
        return record
      end
    end
    return record[1] and record or nil
  end
end

local function csv(...)
  local fields = table.pack(...)
  for i, field in ipairs(fields) do
    fields[i] = '"' .. field:gsub('"', '""'):gsub("%c", " ") .. '"'
  end
  return table.concat(fields, ",") .. "\n"
end

local subject, text = read(letter_path):match "^([^\n]*)\n\n(.*)$"
assert(subject, letter_path .. ": a subject, an empty line and a text expected")

local function fill(template, person)
  return (template:gsub("{([%w_]+)}", function(name)
    return person[name] or error(("%s: no column {%s}"):format(letter_path, name), 0)
  end))
end

local finished = {}
local log = assert(io.open(done_path, "a+"))
for record in records(log:read "a") do
  finished[record[1]] = true
end

local people, columns = {}, nil
for record in records(read(people_path)) do
  if not columns then
    columns = record
  elseif record[1] ~= "" or record[2] then -- no empty line
    local person = {}
    for i, name in ipairs(columns) do
      person[name] = record[i] or ""
    end
    assert(person.address, people_path .. ': no column "address"')
    person.subject, person.text = fill(subject, person), fill(text, person) -- nothing is sent when something is missing
    people[#people + 1] = person
  end
end

local count = { delivered = 0, refused = 0, deferred = 0, unknown = 0 }

local function note(address, state, reply)
  count[state] = count[state] + 1
  if state == "delivered" or state == "refused" then
    log:write(csv(address, state, tostring(reply)))
    log:flush() -- who has been written to is not written to again
  end
  if state ~= "delivered" then
    print(("%s: %s: %s"):format(address, state, reply))
  end
end

local function write_to(pool, person)
  local mail = { from = from, to = person.address, subject = person.subject, text = person.text }
  -- What makes no message, such as an address that is none, is raised by post(): it is that line's affair.
  local ok, why = pcall(pool.post, pool, mail, function(result, err)
    local row = (result or err).recipients[1]
    note(row.address, row.state, row.reply)
  end)
  if not ok then
    note(person.address, "refused", why)
  end
end

do
  local pool <close> = moonpost.pool { via = via, connections = 5, per_connection = 50 }
  for _, person in ipairs(people) do
    if not finished[person.address] then
      finished[person.address] = true -- twice in the file is once in the mail
      write_to(pool, person)
    end
  end
  pool:drain()
end
log:close()

local again = count.deferred + count.unknown
print(("%d delivered, %d refused, %d to try again"):format(count.delivered, count.refused, again))
os.exit(again > 0 and 75 or 0)
