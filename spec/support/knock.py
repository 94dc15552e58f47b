"""Load of whole sessions: knock.py CLIENTS ADDRESS... where an address is a port of 127.0.0.1 or the path of a unix socket (LMTP).
Each client has one session after the other, at each address in turn, until standard input ends; a session must get what it
expects at every step, up to 221. The last line is "N sessions", or what went wrong.
"""
import socket
import sys
import threading

WAIT = 20
stop = threading.Event()
lock = threading.Lock()
sessions = 0
wrong = []


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
            raise RuntimeError("%s: %r" % (what, line))
        if line[3:4] != b"-":
            return


def session(address):
    hello = b"EHLO" if address.isdigit() else b"LHLO"
    with connect(address) as one, one.makefile("rb") as stream:
        reply(stream, "greeting", b"220")
        for command, wanted in (
            (hello + b" client.example.net", b"250"),
            (b"MAIL FROM:<a@example.net>", b"250"),
            (b"RCPT TO:<ann@example.org>", b"250"),
            (b"DATA", b"354"),
            (b"Subject: knock\r\n\r\nknock\r\n.", b"250"),
            (b"QUIT", b"221"),
        ):
            one.sendall(command + b"\r\n")
            reply(stream, command, wanted)
        if stream.read(1):
            raise RuntimeError("octets behind 221")


def client(number):
    global sessions
    addresses = sys.argv[2:]
    while not stop.is_set():
        try:
            session(addresses[number % len(addresses)])
        except (OSError, RuntimeError) as err:
            wrong.append("%s: %s" % (addresses[number % len(addresses)], err))
            stop.set()
            return
        number += 1
        with lock:
            sessions += 1


clients = [threading.Thread(target=client, args=(i,), daemon=True) for i in range(int(sys.argv[1]))]
for each in clients:
    each.start()
print("knocking", flush=True)
sys.stdin.read()
stop.set()
for each in clients:
    each.join()
print("\n".join(wrong) if wrong else "%d sessions" % sessions)
sys.exit(1 if wrong else 0)
