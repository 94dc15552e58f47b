// node bench/clients/nodemailer.js PORT COUNT CONNECTIONS SIZE: sends messages through nodemailer's pool; prints the seconds
// from the first to the last.
"use strict";
const nodemailer = require("nodemailer");

const [port, count, connections, size] = process.argv.slice(2).map(Number);
const head = "From: bench@example.com\r\nTo: user@example.org\r\nSubject: bench\r\n\r\n";
const line = "x".repeat(70) + "\r\n";
const raw = head + line.repeat(Math.floor((size - head.length) / line.length));
const envelope = { from: "bench@example.com", to: ["user@example.org"] };

async function main() {
  const transport = nodemailer.createTransport({
    host: "127.0.0.1", port, pool: true, maxConnections: connections, maxMessages: Infinity, ignoreTLS: true,
  });
  const began = process.hrtime.bigint();
  let left = count;
  async function work() {
    while (left-- > 0) await transport.sendMail({ envelope, raw });
  }
  await Promise.all(Array.from({ length: 2 * connections }, work));
  console.log(Number(process.hrtime.bigint() - began) / 1e9);
  transport.close();
}

main();
