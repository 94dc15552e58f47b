"""A peer whose spec says, line by line on standard input, what goes in clear, what through TLS, and when. Argument: port.

  clear OCTETS   as they are; C escapes count in all OCTETS
  reply          reads one reply, in clear or through TLS, and prints it with " / " between its lines
  tls [split]    does the handshake and prints its version; with "split" each octet is a segment of its own
  say OCTETS     through TLS
  hold OCTETS    seals them and keeps the record back
  notify         seals a close_notify and keeps it back
  flush [OCTETS] sends what was kept back, and OCTETS in clear, in one segment
  finish         says to TCP that nothing more will be sent
  leave          goes away
  abort          goes away by a reset
  rest           reads to the end, prints "end " and what could be read

A command that has nothing else to print prints "ok"."""
import codecs
import socket
import ssl
import struct
import sys

sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60)
sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(incoming, outgoing, server_hostname="mx.example.org")
on = False


def put(octets, split=False):
    for i in range(0, len(octets), 1 if split else len(octets) or 1):
        sock.sendall(octets[i:i + 1] if split else octets)


def step(call, split=False):
    """A call of TLS with all the traffic that it needs; b"" at the end."""
    while True:
        try:
            result = call()
            put(outgoing.read(), split)
            return result
        except ssl.SSLWantReadError:
            put(outgoing.read(), split)
            got = sock.recv(65536)
            if not got:
                return b""
            incoming.write(got)
        except ssl.SSLZeroReturnError:
            return b""


def read():
    return step(lambda: tls.read(65536)) if on else sock.recv(65536)


def reply():
    octets = b""
    while not octets.endswith(b"\n") or octets.splitlines()[-1][3:4] == b"-":
        got = read()
        if not got:
            return "end " + octets.decode("latin-1")
        octets += got
    return " / ".join(octets.decode("latin-1").split("\r\n")[:-1])


def rest():
    octets = b""
    try:
        while got := read():
            octets += got
    except (ConnectionError, ssl.SSLError):
        pass
    return "end " + " / ".join(octets.decode("latin-1").split("\r\n")).removesuffix(" / ")


for line in sys.stdin:
    verb, _, text = line.rstrip("\n").partition(" ")
    octets = codecs.escape_decode(text.encode())[0]
    answer = "ok"
    if verb == "clear":
        put(octets)
    elif verb == "reply":
        answer = reply()
    elif verb == "tls":
        step(tls.do_handshake, text == "split")
        on = True
        answer = tls.version()
    elif verb == "say":
        step(lambda: tls.write(octets))
    elif verb == "hold":
        tls.write(octets)
    elif verb == "notify":
        try:
            tls.unwrap()
        except ssl.SSLWantReadError:
            pass  # it is written; the other side's is not waited for
    elif verb == "flush":
        put(outgoing.read() + octets)
    elif verb == "finish":
        sock.shutdown(socket.SHUT_WR)
    elif verb in ("leave", "abort"):
        if verb == "abort":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    elif verb == "rest":
        answer = rest()
    else:
        raise SystemExit("unknown command %r" % verb)
    print(answer, flush=True)
