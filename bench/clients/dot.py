"""Sends messages over some connections at the same time, and prints how long the reply to each final dot took: dot.py HOST:PORT CONNECTIONS MESSAGES SIZE"""
import socket
import sys
import threading
import time

host, port = sys.argv[1].split(":")
connections, messages, size = map(int, sys.argv[2:5])
body = b"Subject: bench\r\n\r\n" + (b"x" * 70 + b"\r\n") * (size // 72)
took, lock = [], threading.Lock()


def talk():
    stream = socket.create_connection((host, int(port)))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    lines = stream.makefile("rb")

    def reply():
        while True:
            line = lines.readline()
            if line[3:4] != b"-":
                assert line[:1] in (b"2", b"3"), line
                return

    mine = []
    reply()
    stream.sendall(b"EHLO bench.example.com\r\n")
    reply()
    for _ in range(messages // connections):
        stream.sendall(b"MAIL FROM:<bench@example.com>\r\n")
        reply()
        stream.sendall(b"RCPT TO:<user@example.net>\r\n")
        reply()
        stream.sendall(b"DATA\r\n")
        reply()
        stream.sendall(body)
        began = time.perf_counter()
        stream.sendall(b".\r\n")
        reply()
        mine.append(time.perf_counter() - began)
    stream.sendall(b"QUIT\r\n")
    with lock:
        took.extend(mine)


threads = [threading.Thread(target=talk) for _ in range(connections)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
took.sort()
print("p50 %.3f" % (took[len(took) // 2] * 1000))
print("p99 %.3f" % (took[len(took) * 99 // 100] * 1000))
