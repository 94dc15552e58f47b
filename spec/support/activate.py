"""Starts a program as systemd does for a socket unit: activate.py NAME=ADDRESS... -- PROGRAM ARGUMENT...

ADDRESS is 127.0.0.1:PORT, [::]:PORT (which takes IPv4 too), unix:PATH, udp, file, or bound (a TCP socket that does not
listen). What was made is told first, a line "socket NAME WHERE" for each, where WHERE is a port. ACTIVATE_PID and
ACTIVATE_FDS are what LISTEN_PID and LISTEN_FDS say instead of the truth. The program finds the WHERE of each, and a space
behind it, in ACTIVATED.
"""
import os
import socket
import sys


def tcp(host, port, listens=True):
    one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if ":" in host:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    one.bind((host, port))
    if listens:
        one.listen(64)
    where = one.getsockname()[1]
    return one.detach(), where


def make(address):
    if address == "file":
        return os.open("/dev/null", os.O_RDONLY), "file"
    if address == "udp":
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind(("127.0.0.1", 0))
        return one.detach(), "udp"
    if address == "bound":
        return tcp("127.0.0.1", 0, False)
    if address.startswith("unix:"):
        one = socket.socket(socket.AF_UNIX)
        one.bind(address[5:])
        one.listen(64)
        return one.detach(), address
    host, port = address.rsplit(":", 1)
    return tcp(host.strip("[]"), int(port))


split = sys.argv.index("--")
names, made, activated = [], [], ""
for argument in sys.argv[1:split]:
    name, address = argument.split("=", 1)
    fd, where = make(address)
    print("socket", name, where, file=sys.stderr, flush=True)
    activated += str(where) + " "
    names.append(name)
    made.append(os.dup2(fd, 100 + len(made)))
os.closerange(3, 100)
for i, fd in enumerate(made):
    os.dup2(fd, 3 + i, inheritable=True)
os.closerange(100, 200)
os.environ["LISTEN_PID"] = os.environ.pop("ACTIVATE_PID", str(os.getpid()))
os.environ["LISTEN_FDS"] = os.environ.pop("ACTIVATE_FDS", str(len(made)))
os.environ["ACTIVATED"] = activated
if any(names):
    os.environ["LISTEN_FDNAMES"] = ":".join(names)
os.execvp(sys.argv[split + 1], sys.argv[split + 1:])
