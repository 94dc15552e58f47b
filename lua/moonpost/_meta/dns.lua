---@meta moonpost.dns
-- Names. Every look-up waits without blocking the loop, and returns an answer, or nil and a moonpost.Error of kind
-- "servfail" (no server could answer), "timeout", "bogus" (its signatures do not hold; nothing of it may be used) or "name" (that is
-- no domain name; the only one that is not temporary). That there are no records is an answer. docs/dns.md explains it.

--- A list of what was found; empty lists say why.
---@class moonpost.dns.Answer<T>: { [integer]: T }
---@field ttl integer seconds it may be kept
---@field status "secure"|"insecure" secure: signed, and the signatures hold back to a trust anchor
---@field name string where aliases led; the name that was asked for when there are none
---@field nxdomain? boolean there is no such name
---@field nodata? boolean the name has no records of this type

---@class moonpost.dns.MX
---@field preference integer lower is asked first
---@field host string "" is the root: the domain takes no mail (RFC 7505)

---@class moonpost.dns.TLSA
---@field usage integer
---@field selector integer
---@field mtype integer matching type
---@field data string octets

---@class moonpost.dns.Resolver what dns.resolver and dns.zone return
local Resolver = {}

--- Mail exchangers, by preference.
---@async
---@param name string
---@return moonpost.dns.Answer<moonpost.dns.MX>? answer
---@return moonpost.Error? err
function Resolver:mx(name) end

--- IPv4 addresses.
---@async
---@param name string
---@return moonpost.dns.Answer<string>? answer
---@return moonpost.Error? err
function Resolver:a(name) end

--- IPv6 addresses.
---@async
---@param name string
---@return moonpost.dns.Answer<string>? answer
---@return moonpost.Error? err
function Resolver:aaaa(name) end

--- Texts; the strings of a record are joined.
---@async
---@param name string
---@return moonpost.dns.Answer<string>? answer
---@return moonpost.Error? err
function Resolver:txt(name) end

--- Names of an address.
---@async
---@param ip string an address, or a name below in-addr.arpa or ip6.arpa
---@return moonpost.dns.Answer<string>? answer
---@return moonpost.Error? err
function Resolver:ptr(ip) end

--- Certificates that are promised at a name such as "_25._tcp.mx.example.net".
---@async
---@param name string
---@return moonpost.dns.Answer<moonpost.dns.TLSA>? answer
---@return moonpost.Error? err
function Resolver:tlsa(name) end

--- The name that this one stands for: one step.
---@async
---@param name string
---@return moonpost.dns.Answer<string>? answer
---@return moonpost.Error? err
function Resolver:cname(name) end

--- Addresses of both families, in the order in which they are dialled: by turns, IPv6 first (RFC 8305), at most 32. An address is its own
--- answer; names of the hosts file are looked for there first. When one family could not be asked, the other's are
--- returned, and `partial` holds the error.
---@async
---@param host string
---@return moonpost.dns.Addresses? answer
---@return moonpost.Error? err
function Resolver:addresses(host) end

---@class moonpost.dns.Addresses: moonpost.dns.Answer<string>
---@field partial? moonpost.Error

---@class moonpost.dns.Options
---@field forwarders? string[] servers that answer everything: "192.0.2.53", "192.0.2.53:5353", "[2001:db8::53]:53". Without them and without
--- `recursion`, those of /etc/resolv.conf
---@field recursion? boolean ask from the root servers down
---@field stubs? table<string, string|string[]> servers that answer for a zone and what is below it
---@field root_key? string file with trust anchors of the root, such as /usr/share/dns/root.key: without anchors nothing is secure
---@field trust_anchors? string|string[] DS or DNSKEY records, as in a zone file
---@field timeout? moonpost.Duration for each look-up; "10s"
---@field hosts? string|false the hosts file for `addresses`; /etc/hosts. false: none
---@field zone? moonpost.dns.Zone names that are served from this table instead of asked for

--- Names and what is there: ["example.net"] = { MX = { { 10, "mx.example.net" } }, A = "192.0.2.1", ttl = 300, secure = true }. An address as name stands for
--- its PTR name, "*.example.net" for whatever is not named below. In the place of records: "servfail", "timeout", "bogus".
---@alias moonpost.dns.Zone table<string, moonpost.dns.ZoneEntry|"servfail"|"timeout"|"bogus">

---@class moonpost.dns.ZoneEntry
---@field A? string|string[]
---@field AAAA? string|string[]
---@field MX? table { preference, host }, or a list of these; the host "." says that there is no mail
---@field TXT? string|string[]
---@field PTR? string|string[]
---@field TLSA? table { usage, selector, matching type, hex }, or a list of these
---@field CNAME? string
---@field ttl? integer 3600
---@field secure? boolean as if signed
---@field fail? string|table<string, string> "servfail", "timeout" or "bogus" for every type, or by type: { AAAA = "timeout" }

---@class moonpost.dns the functions of a resolver, asked of the system's unless `use` named another
local dns = {}

--- A resolver of its own. Those of one worker that are described alike share a cache.
---@param options? moonpost.dns.Options
---@return moonpost.dns.Resolver
function dns.resolver(options) end

--- A resolver that serves names from a table and asks nobody: other names do not exist.
---@param names moonpost.dns.Zone
---@param options? { secure?: boolean, ttl?: integer } for entries that do not say
---@return moonpost.dns.Resolver
function dns.zone(names, options) end

--- Makes a resolver the one that everything asks which names none.
---@param resolver? moonpost.dns.Resolver nil: the system's
---@return moonpost.dns.Resolver? former nil when that was the system's
function dns.use(resolver) end

--- The resolver that everything asks which names none.
---@return moonpost.dns.Resolver
function dns.default() end

--- A name as the DNS knows it: A-labels (UTS 46), lower case, no dot at the end.
---@param name string
---@return string? ascii
---@return moonpost.Error? err of kind "name"
function dns.to_ascii(name) end

--- A name as people read it: U-labels where it has A-labels, in UTF-8. For what is shown, not for what is compared.
---@param name string
---@return string? unicode
---@return moonpost.Error? err of kind "name"
function dns.to_unicode(name) end

--- As Resolver:mx.
---@async
function dns.mx(name) end

--- As Resolver:a.
---@async
function dns.a(name) end

--- As Resolver:aaaa.
---@async
function dns.aaaa(name) end

--- As Resolver:txt.
---@async
function dns.txt(name) end

--- As Resolver:ptr.
---@async
function dns.ptr(ip) end

--- As Resolver:tlsa.
---@async
function dns.tlsa(name) end

--- As Resolver:cname.
---@async
function dns.cname(name) end

--- As Resolver:addresses.
---@async
function dns.addresses(host) end
