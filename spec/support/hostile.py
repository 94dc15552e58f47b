"""A mail server for specs that does as it is told, right or wrong, and says what it heard.

usage: hostile.py [ADDRESS:]PORT SCRIPT

SCRIPT is JSON: a list of scripts, one for each connection; the last one serves all further ones too. A script holds lists of actions by
stage: "banner", a verb ("EHLO", "STARTTLS", "MAIL", ...), "body" (behind the final dot); "tls:EHLO" and the like once TLS is on. What
it does not name is done as a decent server does it. A list of lists is one list for each time that the stage comes. An action is

  "text"                  these octets, as they are (latin-1)
  {"tls": true}           the handshake; {"tls": "close" | "garbage" | "silence" | "reset"}: what comes in its place
  {"flood": T, "octets": N}  T again and again, N octets in all or until the peer has gone
  {"cork": true}, {"cork": false}  what is sent between them goes in one segment, each in a TLS record of its own
  {"close": true}, {"reset": true}, {"silence": true}

"certificate", "key", "extensions" (a list), "most" ("1.2", of TLS) and "implicit" (TLS from the first octet) are settings of a script.
It prints "N < LINE" for each line, "N tls VERSION SNI", "N failed ERROR", "N message OCTETS" and, at the end of each connection, "N gone"."""
import json
import socket
import ssl
import struct
import sys
import threading

scripts = json.loads(sys.argv[2])
printing = threading.Lock()


def say(*words):
    with printing:
        print(*words, flush=True)


class Gone(Exception):
    pass


class Session:
    def __init__(self, sock, number):
        self.sock = sock
        self.number = number
        self.script = scripts[min(number, len(scripts)) - 1]
        self.times = {}
        self.secure = False
        self.rest = b""

    def take(self):
        try:
            data = self.sock.recv(65536)
        except (OSError, ssl.SSLError):
            raise Gone() from None
        if not data:
            raise Gone()
        self.rest += data

    def until(self, mark):
        while mark not in self.rest:
            self.take()
        found, self.rest = self.rest.split(mark, 1)
        return found

    def send(self, octets):
        try:
            self.sock.sendall(octets)
        except (OSError, ssl.SSLError):
            raise Gone() from None

    def silence(self):
        while True:
            self.rest = b""
            self.take()

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Gone()

    def tls(self, how):
        if how == "close":
            self.take()
            raise Gone()
        if how == "reset":
            self.take()
            self.reset()
        if how == "silence":
            self.silence()
        if how == "garbage":
            self.take()
            self.send(b"500 what is this?\r\n" * 3)
            self.silence()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.script["certificate"], self.script["key"])
        if self.script.get("most") == "1.2":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        named = []
        context.sni_callback = lambda _, name, __: named.append(name)
        try:
            self.sock = context.wrap_socket(self.sock, server_side=True)
        except (OSError, ssl.SSLError) as error:
            say(self.number, "failed", type(error).__name__, error)
            raise Gone() from None
        self.secure = True
        say(self.number, "tls", self.sock.version(), *named)

    def flood(self, text, octets):
        piece = text.encode("latin-1") * max(1, 65536 // len(text))
        sent = 0
        while sent < octets:
            self.send(piece[: octets - sent])
            sent += len(piece)

    def usual(self, stage):
        if stage == "EHLO" or stage == "LHLO":
            lines = ["mx.example.net"] + self.script.get("extensions", ["PIPELINING", "8BITMIME"])
            if not self.secure and self.script.get("certificate"):
                lines.append("STARTTLS")
            last = len(lines) - 1
            return ["".join("250%s%s\r\n" % (" " if i == last else "-", line) for i, line in enumerate(lines))]
        if stage == "STARTTLS":
            return ["220 2.0.0 go ahead\r\n", {"tls": True}]
        return {
            "banner": ["220 mx.example.net ESMTP\r\n"],
            "DATA": ["354 go on\r\n"],
            "AUTH": ["235 2.7.0 welcome\r\n"],
            "QUIT": ["221 2.0.0 bye\r\n", {"close": True}],
            "body": ["250 2.0.0 taken\r\n"],
        }.get(stage, ["250 2.0.0 ok\r\n"])

    def actions(self, stage):
        name = "tls:" + stage
        chosen = self.script.get(name) if self.secure and name in self.script else self.script.get(stage)
        if chosen is None:
            return self.usual(stage)
        if chosen and isinstance(chosen[0], list):
            time = self.times.get(stage, 0)
            self.times[stage] = time + 1
            return chosen[min(time, len(chosen) - 1)]
        return chosen

    def run(self, stage):
        sent = ""
        for action in self.actions(stage):
            if isinstance(action, str):
                self.send(action.encode("latin-1"))
                sent = action
            elif "tls" in action:
                self.tls(action["tls"])
            elif "flood" in action:
                self.flood(action["flood"], action["octets"])
            elif "cork" in action:
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, action["cork"])
            elif "silence" in action:
                self.silence()
            elif "reset" in action:
                self.reset()
            else:
                raise Gone()
        return sent

    def body(self):
        if self.rest.startswith(b".\r\n"):
            self.rest = self.rest[3:]
            return b""
        while not self.rest.startswith(b".\r\n") and b"\r\n.\r\n" not in self.rest:
            self.take()
        if self.rest.startswith(b".\r\n"):
            self.rest = self.rest[3:]
            return b""
        return self.until(b"\r\n.\r\n") + b"\r\n"

    def serve(self):
        if self.script.get("implicit"):
            self.tls(True)
        self.run("banner")
        while True:
            line = self.until(b"\r\n").decode("latin-1")
            say(self.number, "<", line)
            verb = line.split(" ")[0].upper()
            said = self.run(verb)
            if verb == "DATA" and said.startswith("354"):
                say(self.number, "message", len(self.body()))
                self.run("body")


def serve(sock, number):
    sock.settimeout(60)
    session = Session(sock, number)
    try:
        session.serve()
    except Gone:
        pass
    finally:
        session.sock.close()
        say(number, "gone")


where, _, port = sys.argv[1].rpartition(":")
listener = socket.create_server((where or "127.0.0.1", int(port)), backlog=64)
say("listening on port", listener.getsockname()[1])
count = 0
while True:
    peer, _ = listener.accept()
    count += 1
    threading.Thread(target=serve, args=(peer, count), daemon=True).start()
