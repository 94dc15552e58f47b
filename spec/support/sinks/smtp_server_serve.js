// npm's smtp-server for specs. The only argument is JSON: folder, certificate, key, user, password, token.
//
// Says on standard output which ports it listens at and then a line of JSON for each message, before its reply.
"use strict";
const fs = require("fs");
const path = require("path");
const { SMTPServer } = require("smtp-server");

const ask = JSON.parse(process.argv[2]);
let count = 0;

function say(fields) {
  fs.writeSync(1, JSON.stringify(fields) + "\n");
}

function refusal(code, text) {
  return Object.assign(new Error(text), { responseCode: code });
}

const hooks = {
  key: fs.readFileSync(ask.key),
  cert: fs.readFileSync(ask.certificate),
  name: "mx.example.org",
  size: 60000000,
  authMethods: ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"],
  authOptional: true,
  disableReverseLookup: true,
  onAuth(auth, session, callback) {
    const good =
      auth.method === "XOAUTH2" ? auth.accessToken === ask.token
      : auth.method === "CRAM-MD5" ? auth.validatePassword(ask.password)
      : auth.password === ask.password;
    if (auth.username !== ask.user || !good) return callback(refusal(535, "5.7.8 Authentication failed"));
    callback(null, { user: auth.username });
  },
  onRcptTo(address, session, callback) {
    callback(/^nobody@/.test(address.address) ? refusal(550, "5.1.1 No such mailbox") : null);
  },
  onData(stream, session, callback) {
    const file = path.join(ask.folder, `${++count}.eml`);
    const { mailFrom, rcptTo } = session.envelope;
    const lmtp = this.options.lmtp;
    stream.pipe(fs.createWriteStream(file)).on("finish", () => {
      say({
        file, sender: mailFrom.address, recipients: rcptTo.map((to) => to.address), options: mailFrom.args || {},
        parameters: rcptTo.map((to) => to.args || {}), user: session.user, helo: session.hostNameAppearsAs, tls: session.secure,
      });
      const replies = rcptTo.map(() => "2.0.0 OK");
      callback(null, lmtp ? replies : replies[0]);
    });
  },
};

function listen(options) {
  return new Promise((resolve) => {
    const server = new SMTPServer({ ...hooks, ...options });
    server.on("error", () => {}); // of connections that go away
    server.listen(0, "127.0.0.1", () => resolve(server.server.address().port));
  });
}

async function main() {
  say({
    listening: {
      plain: await listen({}),
      implicit: await listen({ secure: true }),
      lmtp: await listen({ lmtp: true, disabledCommands: ["STARTTLS"] }),
    },
  });
}

main();
