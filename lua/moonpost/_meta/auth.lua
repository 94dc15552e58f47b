---@meta moonpost.auth
-- Who sent a message: public suffixes, Authentication-Results, DMARC, and everything in one call. docs/authentication.md, docs/dmarc.md and
-- docs/authentication-results.md explain it.

--- Public suffixes.
---@class moonpost.psl
local psl = {}

---@class moonpost.psl.List
local List = {}

--- The registrable domain of a name; nil when there is none.
---@param name string
---@return string? domain
function List:registrable(name) end

--- The registrable domain of a name: its public suffix and one label more.
---@param name string A-labels or U-labels, which come back as they were given, in lower case
---@return string? domain nil when there is none: of a public suffix, an address, what is no name
function psl.registrable(name) end

--- A list of a file.
---@param path string the .dat of publicsuffix.org, or what psl-make-dafsa makes of it
---@return moonpost.psl.List? list
---@return string? why
function psl.load(path) end

--- Makes a list the one that is asked where none is named.
---@param list? moonpost.psl.List nil: the system's
---@return moonpost.psl.List? former nil when that was the system's
function psl.use(list) end

--- The list that is asked where none is named.
---@return moonpost.psl.List
function psl.default() end

--- Whether a value is what psl.load returns.
---@param value any
---@return boolean
function psl.is_list(value) end

---@class moonpost.authres.Result
---@field method string "spf"; in lower case when it was read
---@field result string "pass"; in lower case when it was read
---@field version? string of the method
---@field reason? string
---@field comment? string behind the result, without its parentheses
---@field properties? table<string, string>|{ [1]: string, [2]: string }[] "smtp.mailfrom" = value; to be written also as a list of pairs, which has an order

---@class moonpost.authres.Field
---@field id? string whose word it is (authserv-id); nil when the field does not say
---@field version? string nil is 1
---@field results moonpost.authres.Result[]
---@field damaged? true something in it made no sense and was passed over

--- Authentication-Results (RFC 8601).
---@class moonpost.authres
local authres = {}

--- Reads a field's value.
---@param value string
---@return moonpost.authres.Field? field nil when there is nothing in it
function authres.parse(value) end

--- Writes a field's value, folded.
---@param given { id: string, results: moonpost.authres.Result[] }
---@return string value for message:prepend
function authres.format(given) end

--- Takes away the fields that claim to be ours, and those that do not say whose they are.
---@param message moonpost.Message
---@param ids string|string[] names of this host
---@return integer count how many there were
function authres.strip(message, ids) end

--- The fields of somebody who is believed, from the top.
---@param message moonpost.Message
---@param ids string|string[] names that are believed
---@return moonpost.authres.Field[]
function authres.of(message, ids) end

--- What SPF or DKIM found; other fields do not matter.
---@class moonpost.dmarc.Found
---@field result string "pass", "fail", "temperror", ...
---@field domain? string that vouches
---@field selector? string
---@field scope? string

---@class moonpost.dmarc.Options
---@field from_domain string of the author: dmarc.author
---@field spf? moonpost.dmarc.Found
---@field dkim? moonpost.dmarc.Found[] every signature
---@field dns? moonpost.dns.Resolver whom to ask
---@field psl? moonpost.psl.List
---@field method? "psl"|"walk" how organizational domains are found: by the public suffix list (RFC 7489), or up the tree of the DNS (RFC 9989)
---@field random? fun(): number from 0 to less than 1, for pct

---@class moonpost.dmarc.Verdict
---@field result "pass"|"fail"|"none"|"temperror"|"permerror"
---@field reason? string unless it passed
---@field domain string of the author, A-labels
---@field policy "none"|"quarantine"|"reject" what the domain asks for where nothing vouches
---@field disposition "none"|"quarantine"|"reject" what it asks for now: of a message that failed, and was not spared
---@field sampled_out? true it was spared: by pct, or because the policy is being tried out
---@field organization? string the organizational domain
---@field record? moonpost.dmarc.Record
---@field record_domain? string where that is
---@field nonexistent? true the author's domain does not exist, and the policy is that for such
---@field spf? moonpost.dmarc.Judged
---@field dkim moonpost.dmarc.Judged[]
---@field method "psl"|"walk"

---@class moonpost.dmarc.Judged: moonpost.dmarc.Found
---@field aligned boolean the domain is the author's, or of the same organization where that is enough

---@class moonpost.dmarc.Record
---@field text string
---@field p? "none"|"quarantine"|"reject"
---@field sp? "none"|"quarantine"|"reject"
---@field np? "none"|"quarantine"|"reject"
---@field adkim "r"|"s"
---@field aspf "r"|"s"
---@field pct integer
---@field fo table<"0"|"1"|"d"|"s", true>
---@field ri integer seconds
---@field psd "y"|"n"|"u"
---@field t "y"|"n"
---@field rua moonpost.dmarc.Address[]
---@field ruf moonpost.dmarc.Address[]
---@field rf? string
---@field problems string[] what makes no sense in it
---@field invalid? "p"|"sp"|"np" the policy that cannot be read

---@class moonpost.dmarc.Address
---@field uri string
---@field scheme string
---@field address? string of mailto
---@field domain? string of that, A-labels
---@field limit? integer octets that are taken

---@class moonpost.dmarc.Refusal
---@field uri string
---@field why string
---@field temporary? true nobody could be asked

---@class moonpost.dmarc.Facts
---@field source_ip string
---@field envelope_from? string address or domain; "" is the null sender
---@field envelope_to? string
---@field disposition? "none"|"quarantine"|"reject" what was done, when it was not what was asked for
---@field override? "forwarded"|"sampled_out"|"trusted_forwarder"|"mailing_list"|"local_policy"|"policy_test_mode"|"other" why
---@field comment? string
---@field time? number

--- Plain values, for a file.
---@class moonpost.dmarc.Row
---@field record_domain string
---@field rua string[]

---@class moonpost.dmarc.AggregateOptions
---@field rows moonpost.dmarc.Row[]|fun(): moonpost.dmarc.Row?
---@field from number seconds since 1970
---@field to number
---@field submitter string the domain of who reports
---@field organization string its name
---@field email string whom to ask about it
---@field contact? string more of that

---@class moonpost.dmarc.AggregateReport
---@field record_domain string
---@field id string
---@field name string of the file, without ".gz"
---@field xml string
---@field rua string[]
---@field submitter string
---@field messages integer
---@field rows integer
---@field left_out integer messages whose rows were more than a report has

--- DMARC (RFC 7489, RFC 9989).
---@class moonpost.dmarc
local dmarc = {}

--- Judges a message by what SPF and DKIM found.
---@async
---@param options moonpost.dmarc.Options
---@return moonpost.dmarc.Verdict
function dmarc.check(options) end

--- The one domain that the authors of a message have.
---@param message moonpost.Message|string[] or the values of its From fields
---@return string? domain A-labels
---@return string? why
function dmarc.author(message) end

--- Reads a record.
---@param text string
---@return moonpost.dmarc.Record? record
---@return string? why it is none
function dmarc.parse(text) end

--- What authres.format writes of a verdict.
---@param verdict moonpost.dmarc.Verdict
---@return moonpost.authres.Result
function dmarc.authres(verdict) end

--- A record of one message, for a report.
---@param verdict moonpost.dmarc.Verdict
---@param facts moonpost.dmarc.Facts
---@return moonpost.dmarc.Row? row nil when nobody asks for a report about it
function dmarc.row(verdict, facts) end

--- Writes reports: one for each domain whose record was followed.
---@param options moonpost.dmarc.AggregateOptions
---@return moonpost.dmarc.AggregateReport[]
function dmarc.aggregate(options) end

--- The addresses that reports may go to.
---@async
---@param of moonpost.dmarc.Verdict|moonpost.dmarc.Row|moonpost.dmarc.AggregateReport
---@param how? { kind?: "rua"|"ruf", dns?: moonpost.dns.Resolver, psl?: moonpost.psl.List }
---@return moonpost.dmarc.Address[] agreed
---@return moonpost.dmarc.Refusal[] others
function dmarc.destinations(of, how) end

--- A message that carries a report.
---@param report moonpost.dmarc.AggregateReport
---@param how { from: string, to: moonpost.dmarc.Address|string, now?: number }
---@return { from: string, to: string, message: string }? mail for moonpost.send
---@return string? why the report is larger than its receiver wants it
function dmarc.mail(report, how) end

---@class moonpost.auth.Options
---@field id? string our name in Authentication-Results; the server's hostname
---@field own? string[]|string further names of ours, which nobody outside may speak in
---@field timeout? moonpost.Duration for everything together: "20s"
---@field dns? moonpost.dns.Resolver the default resolver
---@field psl? moonpost.psl.List
---@field method? "psl"|"walk" how organizational domains are found
---@field time? integer seconds since 1970; now
---@field sealers? string[]|string domains whose seals are believed: what they say of DMARC overrides a failure

---@class moonpost.auth.Found
---@field from? string the author's domain, A-labels; nil when there is none, or several
---@field ip? string of the client; nil on a unix socket
---@field spf moonpost.spf.Result of the reverse-path; "none" where it is empty
---@field helo moonpost.spf.Result of the name in HELO
---@field iprev moonpost.iprev.Found "none" on a unix socket
---@field dkim moonpost.dkim.Found[]
---@field arc moonpost.arc.Found
---@field dmarc moonpost.dmarc.Verdict
---@field disposition "none"|"quarantine"|"reject" what is to be done: DMARC's, unless a sealer overrides it
---@field override? { domain: string, instance: integer } the sealer who said that DMARC passed
---@field results moonpost.authres.Result[]
---@field header string the value of an Authentication-Results field
---@field removed integer fields that claimed to be ours, and are gone

---@class moonpost.auth
local auth = {}

--- Finds out who sent a message as it was received, and takes the Authentication-Results away that claim to be ours.
---@async
---@param session moonpost.Session
---@param message moonpost.Message
---@param options? moonpost.auth.Options
---@return moonpost.auth.Found
function auth.verify(session, message, options) end
