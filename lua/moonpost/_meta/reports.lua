---@meta moonpost.reports
-- Reports of others as tables; docs/reports.md explains them.

---@class moonpost.reports.Report
---@field kind "dsn"|"arf"|"dmarc"|"tls"
---@field part? moonpost.mime.Part where it was
---@field message? moonpost.mime.Part the message that it is about
---@field headers? string or its header

---@class moonpost.reports.Dsn: moonpost.reports.Report
---@field recipients moonpost.reports.Recipient[]
---@field reporting_mta? string
---@field received_from? string
---@field envelope_id? string
---@field arrival? integer
---@field guessed? boolean

---@class moonpost.reports.Recipient
---@field address? string
---@field original? string
---@field action? "failed"|"delayed"|"delivered"|"relayed"|"expanded"
---@field status? string
---@field code? integer
---@field diagnostic? string
---@field diagnostic_type? string
---@field remote? string
---@field last_attempt? integer
---@field retry_until? integer
---@field log_id? string

---@class moonpost.reports.Arf: moonpost.reports.Report
---@field type? string
---@field user_agent? string
---@field version? integer
---@field incidents integer
---@field reporting_mta? string
---@field arrival? integer
---@field mail_from? string
---@field recipients string[]
---@field envelope_id? string
---@field source_ip? string
---@field source_port? integer
---@field domains string[]
---@field uris string[]
---@field authentication_results string[]
---@field auth_failure? string
---@field delivery_result? string
---@field identity_alignment? string
---@field dkim_domain? string
---@field dkim_identity? string
---@field dkim_selector? string
---@field dkim_selector_dns? string
---@field dkim_adsp_dns? string
---@field dkim_canonicalized_header? string base64
---@field dkim_canonicalized_body? string base64
---@field spf_dns? string

---@class moonpost.reports.Dmarc: moonpost.reports.Report
---@field organization? string
---@field email? string
---@field extra_contact? string
---@field id? string
---@field version? number
---@field errors string[]
---@field from? integer
---@field to? integer
---@field policy table
---@field rows moonpost.reports.Row[]
---@field extensions { name: string, definition?: string }[]

---@class moonpost.reports.Row
---@field source_ip? string
---@field count? integer
---@field disposition? string
---@field dkim? string
---@field spf? string
---@field reasons { type?: string, comment?: string }[]
---@field header_from? string
---@field envelope_from? string
---@field envelope_to? string
---@field auth { dkim: table[], spf: table[] }
---@field extensions { name: string, definition?: string }[]

---@class moonpost.reports.Tls: moonpost.reports.Report
---@field organization? string
---@field contact? string
---@field id? string
---@field from? integer
---@field to? integer
---@field policies moonpost.reports.TlsPolicy[]

---@class moonpost.reports.TlsPolicy
---@field type? string
---@field domain? string
---@field strings string[]
---@field mx string[]
---@field successful? integer
---@field failed? integer
---@field failures table[] result, sessions, sending_ip, receiving_ip, mx, helo, reason, information

---@class moonpost.reports
local reports = {}

--- Reads a report.
---@param from moonpost.Message|moonpost.Made|string a message; its octets; or those of a report's file, packed or not
---@return moonpost.reports.Report? report nil when it is none that is known
---@return moonpost.Error? err of kind "report", or "limit"
function reports.read(from) end
