"""Opens many SMTP sessions on loopback from many addresses, says EHLO in each, prints "idle N" and holds them until its
standard input ends. Arguments: port, how many."""
import resource
import selectors
import socket
import sys

port, count = int(sys.argv[1]), int(sys.argv[2])
EACH = 50  # from one address
BATCH = 100  # not yet answered: below any backlog

_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connect(number):
    host = number // EACH
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.bind(("127.1.%d.%d" % (host // 250, host % 250 + 1), 0))
    sock.connect(("127.0.0.1", port))
    return sock


def reply(sock):
    octets = b""
    while not octets.endswith(b"\n") or octets.splitlines()[-1][3:4] == b"-":
        got = sock.recv(4096)
        if not got:
            raise SystemExit("closed after %r" % octets)
        octets += got
    if octets[:1] != b"2":
        raise SystemExit("refused: %r" % octets)


held = []
while len(held) < count:
    fresh = [connect(len(held) + i) for i in range(min(BATCH, count - len(held)))]
    for sock in fresh:
        reply(sock)
        sock.sendall(b"EHLO client.example.net\r\n")
    for sock in fresh:
        reply(sock)
    held += fresh
print("idle %d" % len(held), flush=True)

# Nobody may be hung up on meanwhile.
selector = selectors.DefaultSelector()
for sock in held:
    selector.register(sock, selectors.EVENT_READ)
selector.register(sys.stdin, selectors.EVENT_READ)
ready = selector.select()
if any(key.fileobj is not sys.stdin for key, _ in ready):
    raise SystemExit("an idle connection was hung up on")
