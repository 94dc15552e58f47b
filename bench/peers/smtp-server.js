// smtp-server.js PORT: the npm package smtp-server, every hook set, every message thrown away.
const { SMTPServer } = require("smtp-server");

new SMTPServer({
  disabledCommands: ["AUTH", "STARTTLS"],
  disableReverseLookup: true,
  logger: false,
  maxClients: Infinity,
  onConnect: (session, callback) => callback(),
  onMailFrom: (address, session, callback) => callback(),
  onRcptTo: (address, session, callback) => callback(),
  onData: (stream, session, callback) => {
    stream.on("data", () => {});
    stream.on("end", () => callback());
  },
}).listen(Number(process.argv[2]), "127.0.0.1");
