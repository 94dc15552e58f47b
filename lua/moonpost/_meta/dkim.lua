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
