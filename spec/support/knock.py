"""Load of whole sessions: knock.py [--to-the-end] CLIENTS ADDRESS... where an address is a port of 127.0.0.1 or the path of a
unix socket (LMTP). Each client has one session after the other, at each address in turn, and a session must get what it expects
at every step, up to 221. When standard input ends, so do the clients; the last line is "N sessions, N accepted", or what went
wrong. With --to-the-end the server is expected to go away: a client ends when it is sent away, and only a message whose last dot
got no answer is wrong.
"""
import socket
import sys
import threading

WAIT = 20
arguments = sys.argv[1:]
to_the_end = arguments[0] == "--to-the-end"
if to_the_end:
    arguments.pop(0)
addresses = arguments[1:]
stop = threading.Event()
lock = threading.Lock()
counts = {"sessions": 0, "accepted": 0}
wrong = []


class Unexpected(Exception):
    pass


def count(what):
    with lock:
        counts[what] += 1


def connect(address):
    if address.isdigit():
        return socket.create_connection(("127.0.0.1", int(address)), WAIT)
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(WAIT)
    one.connect(address)
    return one


def reply(stream, what, wanted):
    while True:
        line = stream.readline()
        if not line.startswith(wanted):
            raise Unexpected("%s: %r" % (what, line))
        if line[3:4] != b"-":
            return


def body(one, stream):
    one.sendall(b"Subject: knock\r\n\r\nknock\r\n.\r\n")
    try:
        reply(stream, "dot", b"250")
    except (OSError, Unexpected) as err:
        wrong.append("behind the dot: %s" % err)
        raise
    count("accepted")


def session(address):
    hello = b"EHLO" if address.isdigit() else b"LHLO"
    with connect(address) as one, one.makefile("rb") as stream:
        reply(stream, "greeting", b"220")
        for command, wanted in (
            (hello + b" client.example.net", b"250"),
            (b"MAIL FROM:<a@example.net>", b"250"),
            (b"RCPT TO:<ann@example.org>", b"250"),
            (b"DATA", b"354"),
        ):
            one.sendall(command + b"\r\n")
            reply(stream, command, wanted)
        body(one, stream)
        one.sendall(b"QUIT\r\n")
        reply(stream, "QUIT", b"221")
        if stream.read(1):
            raise Unexpected("octets behind 221")


def client(number):
    while not stop.is_set():
        address = addresses[number % len(addresses)]
        try:
            session(address)
        except (OSError, Unexpected) as err:
            if not to_the_end:
                wrong.append("%s: %s" % (address, err))
                stop.set()
            return
        number += 1
        count("sessions")


clients = [threading.Thread(target=client, args=(i,), daemon=True) for i in range(int(arguments[0]))]
for each in clients:
    each.start()
print("knocking", flush=True)
if not to_the_end:
    sys.stdin.read()
    stop.set()
for each in clients:
    each.join()
print("\n".join(wrong) if wrong else "%d sessions, %d accepted" % (counts["sessions"], counts["accepted"]))
sys.exit(1 if wrong else 0)
