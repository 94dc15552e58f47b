"""idle.py PORT COUNT [tls]: opens COUNT sessions, says EHLO in each (after STARTTLS with `tls`), prints "ready" and keeps
them until its standard input ends. Ten source addresses, so that the ports of one need not suffice."""
import resource
import socket
import ssl
import sys

port, count, secure = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] == ["tls"]
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
context = ssl._create_unverified_context() if secure else None


def reply(connection):
    octets = b""
    while not octets.endswith(b"\r\n") or octets[octets.rfind(b"\n", 0, -1) + 4:][:1] == b"-":
        more = connection.recv(4096)
        if not more:
            sys.exit("the server closed a session: %r" % octets)
        octets += more
    return octets


def session(number):
    connection = socket.create_connection(("127.0.0.1", port), 20, ("127.0.0.%d" % (number % 10 + 1), 0))
    reply(connection)
    if secure:
        connection.sendall(b"EHLO idle.example.com\r\n")
        reply(connection)
        connection.sendall(b"STARTTLS\r\n")
        reply(connection)
        connection = context.wrap_socket(connection)
    connection.sendall(b"EHLO idle.example.com\r\n")
    reply(connection)
    return connection


sessions = [session(number) for number in range(count)]
print("ready", flush=True)
sys.stdin.read()
