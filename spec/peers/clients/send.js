// Sends mails by nodemailer over one connection and prints what came of each as one line of JSON.
//
// The only argument is JSON: transport (nodemailer's options of a transport), mails (a list of { from, to, file or text,
// subject, ... }: with `file` the octets are sent as they are).
"use strict";
const fs = require("fs");
const nodemailer = require("nodemailer");

const ask = JSON.parse(process.argv[2]);
if (ask.ca) ask.transport.tls = Object.assign({ ca: fs.readFileSync(ask.ca) }, ask.transport.tls);

function mailOf({ envelope, file, ...rest }) {
  return file ? { envelope, raw: fs.createReadStream(file) } : { envelope, ...rest };
}

async function main() {
  const transport = nodemailer.createTransport(ask.transport);
  for (const mail of ask.mails) {
    try {
      const info = await transport.sendMail(mailOf(mail));
      console.log(JSON.stringify({ accepted: info.accepted, rejected: info.rejected, response: info.response }));
    } catch (err) {
      console.log(JSON.stringify({ error: err.code, code: err.responseCode, response: err.response, rejected: err.rejected }));
    }
  }
  transport.close();
}

main();
