---@meta moonpost.session

---@class moonpost.TlsFacts
---@field version string "TLSv1.3"
---@field cipher string
---@field sni? string the name that the peer asked for
---@field resumed boolean
---@field verified boolean the peer's certificate is of a known authority
---@field names string[] in that certificate
---@field subject? string
---@field fingerprint? string

--- One peer's conversation. What is known of the peer stays known when it has left.
---@class moonpost.Session
---@field id string for log lines
---@field data table the script's own, for the session's life
---@field alive boolean the peer is there
---@field ip? string nil on a unix socket
---@field port? integer
---@field local_ip? string
---@field local_port? integer
---@field unix boolean
---@field uid? integer of the process behind a unix socket
---@field pid? integer
---@field listener string its name
---@field protocol "smtp"|"submission"|"lmtp"
---@field helo? string once HELO or EHLO has been accepted
---@field esmtp boolean
---@field user? string authenticated
---@field mechanism? string
---@field with string for Received: "ESMTPSA"
---@field early_talker boolean it spoke before it was its turn
---@field errors integer bad commands so far
---@field may_relay boolean the relay rule lets this peer send to anybody
---@field proxied boolean the address was told by a PROXY header or XCLIENT
---@field tls? moonpost.TlsFacts
local Session = {}

--- Tells the peer why and closes, whatever was going on: session:close(421, "4.7.0", "Come back later").
---@param code integer 421, another 4xx or 5xx, or 221
---@param enhanced? string may be left out
---@param text? string
function Session:close(code, enhanced, text) end

return Session
