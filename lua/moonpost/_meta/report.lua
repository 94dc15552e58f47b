---@meta moonpost.report

---@alias moonpost.ReportKind "failed"|"delayed"|"delivered"|"relayed"|"expanded"

--- What a report is about.
---@class moonpost.Notice
---@field kind moonpost.ReportKind
---@field message moonpost.ReportedMessage
---@field recipients moonpost.ReportedRecipient[]
---@field reporting_mta string the name of this host
---@field from? string "Mail Delivery System <MAILER-DAEMON@host>" when left out
---@field to? string who is told in the sender's place, whatever NOTIFY says: postmaster, of what a null sender sent
---@field now? number seconds since 1970
---@field texts? moonpost.ReportTexts|fun(facts: moonpost.ReportFacts): (moonpost.ReportText|string)?, string?, string? in the place of ours
---@field limit? moonpost.Size of a message that is returned whole ("64KiB"); of a longer one the header
---@field eight_bit? boolean 8-bit octets may go back; when left out, if the message came with BODY=8BITMIME
---@field smtputf8? boolean addresses beyond ASCII may go back; when left out, if the message came with SMTPUTF8
---@field random? fun(count: integer): string octets, for tests

---@class moonpost.ReportedMessage
---@field sender string who is told; for "" there is no report
---@field params? table of MAIL: ret, envid, body and smtputf8 may stand there
---@field ret? "FULL"|"HDRS"
---@field envid? string
---@field smtputf8? boolean
---@field body_type? "7BIT"|"8BITMIME"|"BINARYMIME"
---@field head? string header as it came
---@field body? string|fun(): (fun(): string?) what follows the blank line
---@field size? integer octets, where that is known before the body is read
---@field received? number seconds since 1970
---@field deadline? number of DELIVERBY
---@field id? string as in the log
---@field received_from? string host that it came from

---@class moonpost.ReportedRecipient
---@field address string where it was to go
---@field original? string what the sender has written, where that was another address
---@field orcpt? string decoded
---@field orcpt_type? string "rfc822"
---@field notify? table<"NEVER"|"SUCCESS"|"FAILURE"|"DELAY", boolean>
---@field params? table of RCPT: notify may stand there
---@field status? string "5.1.1"; that of the reply when left out
---@field reply? moonpost.Reply|string
---@field own? boolean the reply is ours, not that host's
---@field host? string who said it
---@field attempted? number time of the last attempt
---@field expired? boolean it was tried for too long
---@field will_retry_until? number
---@field log_id? string

--- What moonpost.send takes.
---@class moonpost.Report
---@field from ""
---@field to string
---@field message string
---@field params { smtputf8?: true, body?: "8BITMIME" }

--- In subject and text stand %{sender}, %{host}, %{postmaster}, %{subject}, %{date}, %{id}, %{count}, %{recipients}; %{subject:none} has a default.
---@class moonpost.ReportText
---@field subject string one line
---@field text string
---@field language? string "de"

---@alias moonpost.ReportTexts table<moonpost.ReportKind, moonpost.ReportText|fun(facts: moonpost.ReportFacts): moonpost.ReportText?>

--- What a text may speak of: clean lines.
---@class moonpost.ReportFacts
---@field kind moonpost.ReportKind
---@field sender string of the message; "" for none
---@field other boolean somebody is told in the sender's place
---@field host string who tells
---@field postmaster string
---@field subject? string of the message, decoded
---@field date? string when it arrived
---@field id? string
---@field count integer
---@field recipients moonpost.ReportRow[]
---@field returned "message"|"header"|"nothing"

---@class moonpost.ReportRow
---@field address string as the sender has written it
---@field host? string who said the words
---@field words? string
---@field own? boolean
---@field status string
---@field expired? boolean
---@field waited? string since it arrived: "5 days"
---@field retry_until? string

--- Delivery status notifications.
---@class moonpost.Reports
local Reports = {}

--- Makes a report for the sender of a message.
---@param notice moonpost.Notice
---@return moonpost.Report? report
---@return string? why there is none; with one, why a text of the caller's was not used
function Reports.make(notice) end

--- Whether a recipient's NOTIFY asks for a report of this kind.
---@param recipient table
---@param kind moonpost.ReportKind
---@return boolean
function Reports.wanted(recipient, kind) end

--- Puts recipients that can share a report together, without those that none is wanted for.
---@param recipients table[] each with its `kind`
---@return { kind: moonpost.ReportKind, recipients: table[] }[]
function Reports.group(recipients) end

--- Whether texts can take the place of ours.
---@param texts any
---@return boolean ok
---@return string? why
function Reports.check(texts) end

---@class moonpost.SrsOptions
---@field domain string of the addresses that are made
---@field secrets string|string[] 16 octets each at least; the first signs, all of them are believed
---@field own? string|string[] domains whose senders are left alone; ".example.org" is all below one
---@field expire? moonpost.Duration how long an address can be written to ("21d")
---@field separator? "="|"+"|"-" behind SRS0 and SRS1 ("=")
---@field hash? integer characters of the hash (6)

---@class moonpost.Srs
---@field domain string
local Srs = {}

--- The reverse-path to forward a message with. The null sender and senders of our own domains stay as they are.
---@param sender string "" is the null sender
---@param now? number seconds since 1970
---@return string? address
---@return moonpost.Error? err kind "too_long" or "invalid"
function Srs:forward(sender, now) end

--- Where a message to a rewritten address goes on to.
---@param recipient string
---@param now? number seconds since 1970
---@return string? address
---@return moonpost.Error? err kind "other", "malformed", "forged" or "expired"
function Srs:reverse(recipient, now) end

--- Whether an address looks as if it were ours to reverse; forged ones do too.
---@param recipient string
---@return boolean
function Srs:matches(recipient) end

---@class moonpost.ScheduleOptions
---@field [integer] moonpost.Duration waits in order, the last of which repeats
---@field expire? moonpost.Duration how long delivery is tried ("5d")
---@field jitter? number by which part a wait is longer or shorter at random (0.1)
---@field warn? moonpost.Duration|false after how long a sender hears that a message is late ("4h")

---@class moonpost.Times
---@field due number of the first attempt, in seconds since 1970 as all of them
---@field expires number when it is given up
---@field warnings number[] when its sender is to hear that it is late, in order
---@field deadline? number of BY
---@field status? "5.4.7" when it expires by BY
---@field conflict? string why it can never be delivered as it was asked for

---@class moonpost.Schedule
---@field steps number[]
---@field expire number
---@field jitter number
---@field warn? number
local Schedule = {}

--- The times of one message.
---@param received number seconds since 1970
---@param params? table|false of MAIL
---@return moonpost.Times
function Schedule:times(received, params) end

--- When the next attempt is due.
---@param attempts integer how many have been made
---@param now number
---@param times moonpost.Times
---@param random? fun(): number from 0 to less than 1
---@return number? due
---@return "expired"? why
function Schedule:next(attempts, now, times, random) end

--- How many warnings are due.
---@param times moonpost.Times
---@param now number
---@return integer
function Schedule:warned(times, now) end
--- When a message without parameters is given up, and when somebody has to look at it first.
---@param received number
---@return number expires
---@return number alarm
function Schedule:ends(received) end
