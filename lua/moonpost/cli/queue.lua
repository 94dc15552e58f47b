--- moonpost queue: what people do to a queue, whether a server runs or not.
local json = require "moonpost.json"
local link_of = require "moonpost.cli.queue_link"
local log = require "moonpost.log"
local suggest = require "moonpost.suggest"
local task = require "moonpost.task"
local units = require "moonpost.units"
local view = require "moonpost.cli.queue_view"

local M = {}

local SHORTEST = 0.1 -- seconds between two frames

M.usage = "queue COMMAND --spool FOLDER [FILTER...] [ID...]"
M.help = [[
  ls [ID...]                 deliveries, oldest message first
  show ID...                 everything about the deliveries of a message
  cat ID                     the message itself
  hold, release [ID...]      keep from being tried, and no longer
  retry [ID...]              try now; the pause of the site is over
  redirect ADDRESS [ID...]   send to another address, now
  rm [ID...]                 forget; nobody is told
  bounce [ID...]             return to the sender
  suspend, resume SITE       ask nothing of a site; and no longer
  limit SITE NAME=VALUE...   other limits for a site, until the server ends
  check                      look at the whole spool, and set aside what is damaged
  stats                      what is in the queue, and how its sites are
  top                        the same, again and again, until you press Ctrl-C

Speaks to the server that has the spool, by the socket "control" in its folder, and works on the spool itself when none runs. Of a command that
changes deliveries, --all means everything that the filters leave; without IDs and filters it is needed. MOONPOST_SPOOL stands for --spool.
Exit status 1 when something went wrong or nothing was found.]]

local function number(text)
  local n = math.tointeger(tonumber(text))
  return n and n > 0 and n or nil, "a whole number of 1 or more"
end

local function duration(text)
  local seconds, expected = units.duration(text)
  return seconds and text, expected
end

local filters = {
  from = "sender", to = "recipient", domain = "domain", site = "site", tenant = "tenant", reply = "reply", older = "older", younger = "younger",
}

M.options = {
  { name = "spool", value = "FOLDER", doc = "where the queue is" },
  { name = "from", value = "ADDRESS", doc = 'of the sender: a@example.org, "*@example.org", "<>"' },
  { name = "to", value = "ADDRESS", doc = "of the recipient" },
  { name = "domain", value = "NAME", doc = "of the recipient" },
  { name = "site", value = "NAME", doc = "where the last attempt went" },
  { name = "tenant", value = "NAME", doc = "whose message it is" },
  { name = "reply", value = "TEXT", doc = "is somewhere in the last reply" },
  { name = "older", value = "TIME", doc = 'came before: "2h"', parse = duration },
  { name = "younger", value = "TIME", doc = "came within", parse = duration },
  { name = "held", doc = "is held" },
  { name = "most", value = "NUMBER", doc = "no more deliveries than that", parse = number },
  { name = "all", doc = "change everything that the filters leave" },
  { name = "code", value = "NUMBER", doc = "of a bounce; 550", parse = number },
  { name = "enhanced", value = "CODE", doc = "of a bounce; 5.7.0" },
  { name = "text", value = "TEXT", doc = "of a bounce" },
  { name = "every", value = "TIME", doc = "of top; 2s", parse = function(text)
    local seconds, expected = units.duration(text)
    if seconds and seconds < SHORTEST then
      return nil, "at least 100ms"
    end
    return seconds, expected
  end },
  { name = "once", doc = "of top: one frame" },
  { name = "json", doc = "one JSON value a line, for programs" },
}
M.operands = { "COMMAND", "WORDS*" }

local function complain(text)
  io.stderr:write("moonpost: queue: ", text, "\n")
  return 1
end

-- The filter of the options; empty where there is none.
local function filter_of(args, id)
  local filter = { id = id, held = args.held, most = args.most }
  for option, name in pairs(filters) do
    filter[name] = args[option]
  end
  return filter
end

-- A request for each ID, or one for what the filters leave.
local function each(args, ids, make)
  local requests = {}
  for i, id in ipairs(ids) do
    requests[i] = make(filter_of(args, id))
  end
  return requests[1] and requests or { make(filter_of(args)) }
end

local function now()
  return task.worker():time()
end

local run = {}

-- Sites that nothing is asked of now, by name: why what is due does not go.
local function quiet_sites(link, args)
  local sites = {}
  local stats = link.running and not args.json and link.ask { what = "stats", quick = true }
  for _, at in ipairs(stats and stats.sites or {}) do
    sites[at.name] = (at.state == "paused" or at.state == "held") and at or nil
  end
  return sites
end

function run.ls(link, args, words)
  local count, sites = 0, quiet_sites(link, args)
  for _, request in ipairs(each(args, words, function(filter) return { what = "list", filter = filter } end)) do
    local answer, why = link.ask(request, function(row)
      if args.json then
        print(json.encode(row))
      else
        io.stdout:write(count == 0 and view.heading .. "\n" or "", view.row(row, now(), sites), "\n")
      end
      count = count + 1
    end)
    if not answer then
      return nil, why
    end
  end
  if count == 0 and not args.json then
    print "nothing"
  end
  return words[1] == nil or count > 0
end

function run.show(link, args, words)
  if not words[1] then
    return nil, "show: ID is missing"
  end
  local found, sites = true, quiet_sites(link, args)
  for i, id in ipairs(words) do
    local count = 0
    local answer, why = link.ask({ what = "list", filter = { id = id } }, function(row)
      io.stdout:write(args.json and json.encode(row) or ((i > 1 or count > 0) and "\n" or "") .. view.details(row, now(), sites), "\n")
      count = count + 1
    end)
    if not answer then
      return nil, why
    elseif count == 0 then
      complain(("%s: there is no such message"):format(log.clean(id)))
      found = false
    end
  end
  return found
end

function run.cat(link, _, words)
  if not words[1] or words[2] then
    return nil, "cat: one ID expected"
  end
  local answer, why = link.ask({ what = "octets", id = words[1] }, function(row)
    io.stdout:write((row.octets:gsub("[\xc2\xc3][\x80-\xbf]", function(char) return string.char(utf8.codepoint(char)) end)))
  end)
  return answer ~= nil, why
end

-- Changes deliveries, and says how many.
local function changer(what, done, more)
  return function(link, args, words)
    if not words[1] and not args.all and not next(filter_of(args)) then
      return nil, ("%s: IDs, filters or --all are needed"):format(args.COMMAND)
    end
    local changed, busy = 0, 0
    for _, request in ipairs(each(args, words, function(filter)
      local request = { what = what, filter = filter }
      for name, value in pairs(more and more(args) or {}) do
        request[name] = value
      end
      return request
    end)) do
      local answer, why = link.ask(request)
      if not answer then
        return nil, why
      end
      changed, busy = changed + answer.changed, busy + answer.busy
    end
    if args.json then
      print(json.encode { changed = changed, busy = busy })
    else
      print(("%d %s%s"):format(changed, done, busy > 0 and (", %d on their way and left alone"):format(busy) or ""))
    end
    return changed > 0
  end
end

run.hold = changer("hold", "held")
run.release = changer("release", "released")
run.retry = changer("retry", "tried now")
run.rm = changer("remove", "removed")
run.bounce = changer("bounce", "returned", function(args)
  return { code = args.code, enhanced = args.enhanced, text = args.text }
end)

function run.redirect(link, args, words)
  local to = table.remove(words, 1)
  if not to then
    return nil, "redirect: ADDRESS is missing"
  end
  return changer("redirect", "redirected", function() return { to = to } end)(link, args, words)
end

-- What is said of a site that there is not, as yet, is kept for it. It may also be a slip.
local function unknown(link, name)
  local stats, names = link.ask { what = "stats", quick = true }, {}
  for _, at in ipairs(stats and stats.sites or {}) do
    names[at.name] = true
  end
  return (names[name] or not stats) and "" or ", which has no mail at the moment" .. suggest.hint(log.clean(name), names)
end

local function of_site(what, done)
  return function(link, args, words)
    if not words[1] or words[2] then
      return nil, ("%s: one SITE expected"):format(what)
    elseif not link.running then
      return nil, ("%s: no server runs, and what is said of a site ends with it"):format(what)
    end
    local answer, why = link.ask { what = what, site = words[1] }
    if answer then
      print(args.json and json.encode { site = words[1] } or ("%s %s%s"):format(log.clean(words[1]), done, unknown(link, words[1])))
    end
    return answer ~= nil, why
  end
end

run.suspend = of_site("suspend", "suspended")
run.resume = of_site("resume", "resumed")

function run.limit(link, args, words)
  local limits = {}
  for i = 2, #words do
    local name, value = words[i]:match("^([%w_]+)=(.+)$")
    if not name then
      return nil, ("limit: NAME=VALUE expected, got %q"):format(words[i])
    end
    limits[name] = math.tointeger(tonumber(value)) or value
  end
  if not next(limits) then
    return nil, "limit: SITE and NAME=VALUE expected"
  elseif not link.running then
    return nil, "limit: no server runs, and what is said of a site ends with it"
  end
  local answer, why = link.ask { what = "limit", site = words[1], limits = limits }
  if answer then
    print(args.json and json.encode { site = words[1], limits = limits } or ("%s limited"):format(log.clean(words[1])))
  end
  return answer ~= nil, why
end

function run.check(link, args)
  local answer, why = link.ask { what = "check" }
  if answer then
    print(args.json and json.encode(answer) or answer.aside == 0 and "fine" or ("damaged, and set aside: %d"):format(answer.aside))
  end
  return answer ~= nil and answer.aside == 0, why
end

function run.stats(link, args)
  local stats, why = link.ask { what = "stats" }
  if not stats then
    return nil, why
  end
  print(args.json and json.encode(stats) or view.stats(stats, now()))
  return true
end

local SCREEN = { enter = "\27[?1049h\27[?25l", home = "\27[H\27[2J", leave = "\27[?25h\27[?1049l" }
local LINES = 24

function run.top(link, args)
  local every, before, stop = args.every or 2, nil, false
  local screen = not args.once and not args.json and os.getenv("TERM") ~= "dumb" and os.execute("test -t 1")
  local lines = tonumber(os.getenv("LINES")) or LINES
  local worker = task.worker()
  worker:signal("INT", function() stop = true end)
  if screen then
    io.stdout:write(SCREEN.enter)
  end
  local stats, why
  repeat
    stats, why = link.ask { what = "stats", quick = true }
    if stats and args.json then
      print(json.encode(stats))
    elseif stats then
      io.stdout:write(screen and SCREEN.home or "", view.frame(stats, before, every, now(), lines), "\n")
    end
    io.stdout:flush()
    before = stats
    local until_ = worker:now() + every
    while not (args.once or stop or not stats) and worker:now() < until_ do
      task.sleep(math.min(0.1, every))
    end
  until args.once or stop or not stats
  if screen then
    io.stdout:write(SCREEN.leave)
  end
  worker:signal("INT", nil)
  return stats ~= nil, why
end

function M.run(args)
  local command, folder = run[args.COMMAND], args.spool or os.getenv "MOONPOST_SPOOL"
  if not command then
    io.stderr:write(("moonpost: queue: there is no command %q%s\n`moonpost help queue` lists them\n"):format(args.COMMAND,
      suggest.hint(args.COMMAND, run)))
    return 2
  elseif not folder or folder == "" then
    io.stderr:write("moonpost: queue: which one? --spool FOLDER, or MOONPOST_SPOOL, is needed\n")
    return 2
  end
  log.configure { level = "error" }
  local well, why
  task.run(function()
    local link
    link, why = link_of.open((folder:gsub("(.)/+$", "%1")))
    if link then
      well, why = command(link, args, args.WORDS)
      link.close()
    end
  end)
  if why then
    return complain(log.clean(why))
  end
  return well and 0 or 1
end

return M
