"""body.py PORT SIZE COUNT [bare]: sends COUNT messages of SIZE octets in one session, and prints for each the seconds
from its first octet to the reply. `bare`: no SMTP, a connection for each, and the end is the receiver's end of file. The
octets go from a file in memory to the socket by sendfile, so that this side costs as little as it can."""
import os
import socket
import sys
import time

port, size, count, bare = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:] == ["bare"]

line = b"Forty-two lines of text are not what this message is about, but so it goes.\r\n"
head = b"Subject: a large message\r\n\r\n"
end = b"\r\n.\r\n"
body = head + line * ((size - len(head) - len(end)) // len(line))
body += b"x" * (size - len(body) - len(end)) + end
source = os.memfd_create("message")
os.write(source, body)
del body


def connect():
    connection = socket.create_connection(("127.0.0.1", port), 60)
    connection.settimeout(None)  # a descriptor that blocks, for sendfile
    return connection


def send(connection):
    offset = 0
    while offset < size:
        offset += os.sendfile(connection.fileno(), source, offset, size - offset)


def expect(connection, code):
    octets = b""
    while not octets.endswith(b"\r\n") or octets[octets.rfind(b"\n", 0, -1) + 4:][:1] == b"-":
        octets += connection.recv(4096) or sys.exit("closed: %r" % octets)
    if not octets.startswith(code):
        sys.exit("%r" % octets)


def say(connection, line, code):
    connection.sendall(line)
    expect(connection, code)


def report(begun):
    print("%.6f" % (time.monotonic() - begun), flush=True)


if bare:
    for _ in range(count):
        connection = connect()
        begun = time.monotonic()
        send(connection)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
        report(begun)
        connection.close()
else:
    connection = connect()
    expect(connection, b"220")
    say(connection, b"EHLO bench.example.com\r\n", b"250")
    for _ in range(count):
        say(connection, b"MAIL FROM:<bench@example.com>\r\n", b"250")
        say(connection, b"RCPT TO:<user@example.org>\r\n", b"250")
        say(connection, b"DATA\r\n", b"354")
        begun = time.monotonic()
        send(connection)
        expect(connection, b"250")
        report(begun)
