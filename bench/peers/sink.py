"""sink.py PORT: reads connections one after the other to their end into one buffer of 64 KiB, and throws it all away."""
import socket
import sys

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
buffer = bytearray(65536)
while True:
    connection, _ = listener.accept()
    while connection.recv_into(buffer):
        pass
    connection.close()
