---@meta moonpost.spf
-- Who is a client, and for whom may it send: SPF (RFC 7208), names of addresses (RFC 8601 3), lists in the DNS (RFC 5782). docs/spf.md and
-- docs/dnsbl.md explain them.

---@class moonpost.spf.Options
---@field ip string of the client
---@field mailfrom? string the reverse-path without its brackets; "": HELO's identity is checked
---@field helo? string what the client said in HELO or EHLO
---@field identity? "mailfrom"|"helo" which one is checked: mailfrom, and helo when that is empty
---@field receiver? string our name, for macros in explanations
---@field explanation? string for failures that the domain does not explain; may have macros
---@field voids? integer terms that may ask for what is not there: 2
---@field timeout? moonpost.Duration for all look-ups together: 20 seconds
---@field dns? moonpost.dns.Resolver the default resolver

---@class moonpost.spf.Result
---@field result "pass"|"fail"|"softfail"|"neutral"|"none"|"temperror"|"permerror"
---@field identity "mailfrom"|"helo"
---@field domain string whose record was asked for
---@field mechanism? string the term that decided, as it is written in the record; "default" when none did
---@field explanation? string of a fail; strangers wrote it when `explained` is true
---@field explained? boolean
---@field problem? string why there is no verdict: of none, temperror and permerror
---@field lookups integer terms that asked the DNS
---@field voids integer of these, that asked for what is not there
---@field ip string
---@field helo string
---@field sender string

---@class moonpost.spf
local spf = {}

--- Checks one identity of a client. Options that make no sense raise; whatever strangers do is a result.
---@async
---@param options moonpost.spf.Options
---@return moonpost.spf.Result result
function spf.check(options) end

--- The value of a Received-SPF field (RFC 7208 9.1).
---@param result moonpost.spf.Result
---@param receiver string our name
---@return string value printable ASCII, not folded
function spf.received(result, receiver) end

---@class moonpost.iprev.Options
---@field ip string of the client
---@field dns? moonpost.dns.Resolver
---@field timeout? moonpost.Duration 20 seconds

---@class moonpost.iprev.Found
---@field result "pass"|"fail"|"temperror"|"permerror" permerror: there is no name at all
---@field ip string
---@field name? string the first name that leads back
---@field names string[] all that do
---@field problem? string

---@class moonpost.iprev
local iprev = {}

--- Looks a client up: its names, and their addresses.
---@async
---@param options moonpost.iprev.Options
---@return moonpost.iprev.Found found
function iprev.check(options) end

---@class moonpost.Link
---@field host string a name in A-labels, or an address as it is written
---@field domain? string the registrable domain (moonpost.psl); of a name
---@field address? string of a host that is an address

---@class moonpost.Links: { [integer]: moonpost.Link }
---@field more integer links to other domains, past the first fifty

---@class moonpost.links
local links = {}

--- The first link to each domain and to each address in a text.
---@param text string UTF-8
---@param html? boolean with character references
---@return moonpost.Links list
function links.find(text, html) end

--- Those of a message's text and HTML.
---@param message moonpost.Message
---@return moonpost.Links list
function links.of(message) end

---@class moonpost.DnsblOptions
---@field zones (string|moonpost.DnsblZone)[]|string the lists
---@field timeout? moonpost.Duration for all lists together: 5 seconds
---@field fail? "open"|"closed" what a list that cannot be asked comes to: open, nothing; closed, `listed`
---@field keep? moonpost.Duration how long an answer is kept at most: 15 minutes
---@field entries? integer answers that are kept at most: 100000
---@field name? string of the table in moonpost.shared where they are: "dnsbl"
---@field dns? moonpost.dns.Resolver the default resolver

---@class moonpost.DnsblZone
---@field zone string
---@field codes? string[]|string addresses and networks that count; "127.0.0.0/8" without 127.255.255.0/24, by which lists say that they do not answer
---@field reason? boolean ask for the text too

---@class moonpost.Dnsbl
local Dnsbl = {}

--- Asks all lists about an address at once.
---@async
---@param ip string
---@return moonpost.DnsblFound found
function Dnsbl:check(ip) end

--- Asks all lists about a domain at once: URI lists (RFC 5782 2.2).
---@async
---@param name string
---@return moonpost.DnsblFound found
function Dnsbl:domain(name) end

--- Asks all lists at once about where the links of a message, or of a text, lead.
---@async
---@param of moonpost.Message|string
---@return moonpost.DnsblFound found each hit says its `host`
function Dnsbl:links(of) end

--- Whether each list works: has the entry that every list must have, and lacks the one that none may have (RFC 5782 5).
---@async
---@param domains? boolean they list domains
---@return { zone: string, ok: boolean, problem?: string }[]
function Dnsbl:probe(domains) end

---@class moonpost.DnsblFound
---@field listed boolean
---@field hits moonpost.DnsblHit[] in the order of the zones
---@field failed { zone: string, problem: string }[] lists that could not be asked

---@class moonpost.DnsblHit
---@field zone string
---@field codes string[] what the list answered
---@field reason? string
---@field host? string of links: where one leads, as it is written there
