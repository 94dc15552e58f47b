"""The octets of a client that says everything at once: said.py SIZE [PORT]. To a port, by a bare copy; else to standard output."""
import socket
import sys

line = b"x" * 70 + b"\r\n"
size = int(sys.argv[1])
octets = b"EHLO bench\r\nMAIL FROM:<bench@example.com>\r\nRCPT TO:<user@example.org>\r\nDATA\r\nSubject: bench\r\n\r\n"
octets += line * (size // len(line)) + b".\r\n"
if len(sys.argv) > 2:
    with socket.create_connection(("127.0.0.1", int(sys.argv[2]))) as peer:
        peer.sendall(octets)
        heard = b""
        while not heard.endswith(b"354 go\r\n250 ok\r\n"):
            got = peer.recv(65536)
            heard += got or sys.exit("closed: %r" % heard)
else:
    sys.stdout.buffer.write(octets + b"QUIT\r\n")
