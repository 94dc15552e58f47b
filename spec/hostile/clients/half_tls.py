"""Says over TLS that it is done, in the middle of a BDAT chunk, and sends the rest of it in clear. Prints how that ended.

Arguments: port, the authority's file, what to send in clear."""
import socket
import ssl
import sys

port, authority, clear = int(sys.argv[1]), sys.argv[2], sys.argv[3]
TIMEOUT = 20


def reply(read):
    octets = b""
    while not octets.endswith(b"\n") or octets.splitlines()[-1][3:4] == b"-":
        got = read()
        if not got:
            raise SystemExit("closed too early: %r" % octets)
        octets += got
    return octets


sock = socket.create_connection(("127.0.0.1", port), TIMEOUT)
reply(lambda: sock.recv(4096))
for line in (b"EHLO client.example.net", b"STARTTLS"):
    sock.sendall(line + b"\r\n")
    reply(lambda: sock.recv(4096))

incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = ssl.create_default_context(cafile=authority).wrap_bio(incoming, outgoing, server_hostname="mx.example.org")


def step(call):
    while True:
        try:
            result = call()
            sock.sendall(outgoing.read())
            return result
        except ssl.SSLWantReadError:
            sock.sendall(outgoing.read())
            got = sock.recv(65536)
            if not got:
                return b""
            incoming.write(got)


step(tls.do_handshake)
for line in (b"EHLO client.example.net", b"MAIL FROM:<a@example.net>", b"RCPT TO:<bob@example.org>"):
    step(lambda: tls.write(line + b"\r\n"))
    reply(lambda: step(lambda: tls.read(65536)))
step(lambda: tls.write(b"BDAT 14 LAST\r\nSubject"))
try:
    tls.unwrap()  # writes close_notify; the other side's is not waited for
except ssl.SSLWantReadError:
    pass
sock.sendall(outgoing.read())
try:
    sock.sendall(clear.encode())
    while sock.recv(65536):
        pass
except ConnectionError:
    pass
print("closed")
