---@meta moonpost.dkim
-- DKIM (RFC 6376, 8301, 8463): signatures over messages. docs/dkim.md explains it.

---@class moonpost.dkim.SignOptions
---@field domain string who signs: d=
---@field selector string under which the key is in the DNS: s=
---@field key string|moonpost.core.dkim_key PEM, the seed of an Ed25519 key in base64, the path of a file with either, or what dkim.key returned
---@field headers? string[] names of the fields that are signed, each as often as it is there; From has to be among them
---@field oversign? boolean|string[] names that are signed once more, so that no field can be added; true: all of `headers`. When left out: From and those
--- that mail readers show, where they are there
---@field canonicalization? "relaxed/relaxed"|"relaxed/simple"|"simple/relaxed"|"simple/simple" of header and body
---@field expires? moonpost.Duration how long the signature holds: x=
---@field identity? string the user or agent on whose behalf it is made: i=
---@field length? integer octets of the body that are signed: l=. Anybody may add to the rest
---@field time? integer seconds since 1970; now

---@class moonpost.dkim.VerifyOptions
---@field dns? moonpost.dns.Resolver the default resolver
---@field time? integer seconds since 1970; now
---@field timeout? moonpost.Duration for all questions together; what the resolver allows for one
---@field partial? boolean a signature may leave octets of the body unsigned (l=)

---@class moonpost.dkim.Found
---@field result "pass"|"fail"|"policy"|"neutral"|"temperror"|"permerror" as RFC 8601 has it
---@field reason? string why it did not pass
---@field domain? string who signed
---@field selector? string
---@field identity? string on whose behalf; "@domain" when nobody is named
---@field algorithm? string as it is written
---@field canonicalization string
---@field headers string[] names of the fields that are signed, as they are written
---@field signature? string the first characters of b=, which tell signatures apart (RFC 6008)
---@field time? integer when it was made; seconds since 1970
---@field expires? integer
---@field length? integer octets of the body that are signed, when not all are
---@field key_bits? integer
---@field testing boolean the domain only tries DKIM out, and asks for no consequences

---@class moonpost.dkim
local dkim = {}

--- Signs a message: the fields are on top of it then. Sign last, when nothing of the message changes any more.
---@async
---@param message moonpost.Message|string lines of a string end with CRLF
---@param options moonpost.dkim.SignOptions|moonpost.dkim.SignOptions[]|moonpost.dkim.Signer several: the first is on top
---@return moonpost.Message|string? message the same message, or the octets with the fields
---@return moonpost.Error? err of kind "key", or "message": no From field, or options that no signature can hold with
function dkim.sign(message, options) end

--- Something that signs, prepared once: options are checked and keys read here.
---@param options moonpost.dkim.SignOptions|moonpost.dkim.SignOptions[]
---@return moonpost.dkim.Signer? signer
---@return moonpost.Error? err of kind "key"
function dkim.signer(options) end

--- Judges the signatures of a message as it was received, at most ten, from the top.
---@async
---@param message moonpost.Message|string
---@param options? moonpost.dkim.VerifyOptions
---@return moonpost.dkim.Found[]? list one for each signature; empty without any; `more`: how many were not looked at
---@return moonpost.Error? err
function dkim.verify(message, options) end

--- Reads a private key; what it returns can be given as `key`.
---@param text string PEM, the seed of an Ed25519 key in base64, or the path of a file with either
---@return moonpost.core.dkim_key? key
---@return moonpost.Error? err of kind "key"
function dkim.key(text) end

--- Makes a key. An RSA key takes a while, in which nothing else happens: this is for tools.
---@param kind? "ed25519"|"rsa" "rsa" when left out
---@param bits? integer of an RSA key, 1024 to 8192; 2048
---@return { private: string, record: string } pair the key in PEM, and the text of its TXT record
function dkim.keygen(kind, bits) end

---@class moonpost.dkim.Signer
local Signer = {}

--- Puts its signatures on top of the message.
---@async
---@param message moonpost.Message|string
---@return moonpost.Message|string? message
---@return moonpost.Error? err
function Signer:sign(message) end

---@class moonpost.arc.VerifyOptions
---@field dns? moonpost.dns.Resolver whom to ask for keys
---@field timeout? moonpost.Duration for all questions together; what the resolver allows for one
---@field time? integer seconds since 1970: now

---@class moonpost.arc.Row
---@field instance integer
---@field domain string who sealed
---@field selector string
---@field chain "none"|"pass"|"fail" what the sealer made of the chain before
---@field results string what the sealer found out: the value of an Authentication-Results field
---@field signature? "pass"|"fail" of the message, as it came there
---@field seal? "pass"|"fail"

---@class moonpost.arc.Found
---@field result "none"|"pass"|"fail"
---@field reason? string of a fail
---@field temporary? boolean of a fail: a key could not be asked for
---@field instance integer sets that can be read
---@field sets moonpost.arc.Row[] from the first to the last
---@field oldest_pass? integer of a pass: the first set since which nothing has been changed; 0: of all

---@class moonpost.arc.SealOptions
---@field domain string
---@field selector string
---@field key string|moonpost.core.dkim_key as in moonpost.dkim.SignOptions
---@field results string what is found out here: the value of an Authentication-Results field, with its name in front
---@field chain? moonpost.arc.Found|"none"|"pass"|"fail" what the chain was worth when the message came: judged when left out
---@field headers? string[]|string names of the fields to sign
---@field dns? moonpost.dns.Resolver for judging
---@field time? integer seconds since 1970: now

---@class moonpost.arc
local arc = {}

--- Judges the chain of a message as it was received.
---@async
---@param message moonpost.Message|string
---@param options? moonpost.arc.VerifyOptions
---@return moonpost.arc.Found? found
---@return moonpost.Error? err
function arc.verify(message, options) end

--- Seals a message.
---@async
---@param message moonpost.Message|string
---@param options moonpost.arc.SealOptions
---@return moonpost.Message|string? message as it was, when it cannot be sealed any more
---@return moonpost.Error? err
function arc.seal(message, options) end
