---@meta moonpost.report

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
