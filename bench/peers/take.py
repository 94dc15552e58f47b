"""A server that takes messages and keeps nothing: take.py PORT [CERTIFICATE KEY]. It speaks as little SMTP as a client needs, reads
bodies into one buffer, looks at nothing but their ends, and prints the seconds of each, from DATA to the end. The message of a client
that says everything at once is measured as well."""
import socket
import ssl
import sys
import time

END = b"\r\n.\r\n"
buffer = bytearray(1 << 20)
view = memoryview(buffer)


def body(peer, rest):
    began = time.monotonic()
    tail = rest[-16:]
    while tail[-5:] != END and not (tail.endswith(b"QUIT\r\n") and END in tail):
        got = peer.recv_into(view)
        if got == 0:
            return None, b""
        tail = (tail + bytes(view[max(0, got - 16) : got]))[-16:]
    return time.monotonic() - began, tail[tail.rindex(END) + 5 :]


def converse(peer):
    peer.sendall(b"220 take ESMTP\r\n")
    rest = b""
    while True:
        while b"\n" not in rest:
            got = peer.recv(65536)
            if not got:
                return
            rest += got
        line, rest = rest.split(b"\n", 1)
        verb = line[:4].upper()
        if verb == b"EHLO":
            peer.sendall(b"250-take\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
        elif verb == b"DATA":
            peer.sendall(b"354 go\r\n")
            seconds, rest = body(peer, rest)
            if seconds is None:
                return
            print("%.6f" % seconds, flush=True)
            peer.sendall(b"250 ok\r\n")
        elif verb == b"QUIT":
            peer.sendall(b"221 bye\r\n")
            return
        else:
            peer.sendall(b"250 ok\r\n")


context = None
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    peer = listener.accept()[0]
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or 354 would wait for the acknowledgement of what came before it
    try:
        if context:
            peer = context.wrap_socket(peer, server_side=True)
        converse(peer)
        if context:
            peer.unwrap()
    except OSError:
        pass  # who looks whether somebody listens
    peer.close()
