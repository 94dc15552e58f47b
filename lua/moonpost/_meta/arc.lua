---@meta moonpost.arc
-- ARC (RFC 8617), and all that is found out about a message in one call. docs/arc.md and docs/authentication.md explain it.

---@class moonpost.arc.VerifyOptions
---@field dns? moonpost.dns.Resolver the default resolver
---@field time? integer seconds since 1970; now

---@class moonpost.arc.Chain
---@field result "none"|"pass"|"fail"
---@field reason? string why it failed
---@field temporary? true it failed for want of an answer
---@field ended? true somebody before us found it broken: no set is added to it
---@field instance integer of the newest set; 0 without any
---@field sets moonpost.arc.Set[] by instance
---@field oldest_pass? integer of a chain that passed: the oldest set whose signature over the message holds still; 0 when all of them do

---@class moonpost.arc.Set
---@field instance integer
---@field domain? string who sealed
---@field selector? string
---@field signer? string who signed the message, nearly always the same
---@field cv? "none"|"pass"|"fail" what the sealer made of the chain before
---@field time? integer seconds since 1970
---@field results? moonpost.authres.Field what the sealer found

---@class moonpost.arc.SealOptions
---@field domain string who seals: d=
---@field selector string under which the key is in the DNS: s=
---@field key string|moonpost.core.dkim_key PEM, the seed of an Ed25519 key in base64, the path of a file with either, or what dkim.key returned
---@field authserv_id? string whose results they are; the domain
---@field results? moonpost.authres.Result[]|string what was found; when left out, what this message's Authentication-Results of `authserv_id` say
---@field chain? moonpost.arc.Chain|"none"|"pass"|"fail" what arc.verify made of the message as it came in; when left out, the arc= of those results, or
--- else it is verified now
---@field headers? string[] names of the fields that are signed, each as often as it is there
---@field canonicalization? "relaxed/relaxed"|"relaxed/simple"|"simple/relaxed"|"simple/simple" of header and body
---@field time? integer seconds since 1970; now
---@field dns? moonpost.dns.Resolver for a chain that is verified now

---@class moonpost.arc
local arc = {}

--- Judges the chain of a message as it was received.
---@async
---@param message moonpost.Message|string lines of a string end with CRLF
---@param options? moonpost.arc.VerifyOptions
---@return moonpost.arc.Chain? chain
---@return moonpost.Error? err of kind "message" or "system"
function arc.verify(message, options) end

--- Seals a message as it stands: a set is on top of it then. Seal last. A chain that somebody found broken before, or that is full, gets no other
--- set, and the message comes back as it was.
---@async
---@param message moonpost.Message|string
---@param options moonpost.arc.SealOptions
---@return moonpost.Message|string? message the same message, or the octets with the fields
---@return moonpost.Error? err of kind "key", "message" or "system"
---@return integer? instance of the set; nil when none was added
function arc.seal(message, options) end

--- What authres.format writes of a chain.
---@param chain moonpost.arc.Chain
---@return moonpost.authres.Result
function arc.authres(chain) end

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
---@field arc moonpost.arc.Chain
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

return arc
