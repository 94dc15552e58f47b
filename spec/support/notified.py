"""A supervisor's ear: notified.py ADDRESS. Datagrams to the unix socket (a path, or "@" and an abstract name) are printed, a
line for each, with " | " for line ends.
"""
import socket
import sys

ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
ear.bind(sys.argv[1].replace("@", "\0", 1) if sys.argv[1].startswith("@") else sys.argv[1])
print("ready", flush=True)
while True:
    print(ear.recv(65536).decode().replace("\n", " | "), flush=True)
