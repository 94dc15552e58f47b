// Takes every recipient, and throws every message away.
exports.hook_rcpt = (next) => next(OK);
exports.hook_queue = (next) => next(OK);
