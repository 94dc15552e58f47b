"""A web server for specs: answers with files that hold whole responses, and says what it was asked.

usage: https.py FOLDER [CERTIFICATE KEY]

A request for https://HOST/a/b is answered by FOLDER/HOST/a_b, with "Connection: close" behind its first line. A file that begins with
"HANG" is sent without that word, and the connection stays open until the client goes. /echo gives the request back."""
import os
import socket
import socketserver
import ssl
import sys

folder = sys.argv[1]
context = None
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])


def say(*words):
    print(*words, flush=True)


class Handler(socketserver.BaseRequestHandler):
    def read_request(self, sock):
        data = b""
        while b"\r\n\r\n" not in data:
            more = sock.recv(65536)
            if not more:
                return None, b""
            data += more
        head, body = data.split(b"\r\n\r\n", 1)
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, value = line.split(b":", 1)
            if name.lower() == b"content-length":
                length = int(value)
        while len(body) < length:
            body += sock.recv(65536)
        return head.decode("latin-1"), body

    def handle(self):
        sock = self.request
        sock.settimeout(30)
        try:
            if context:
                sock = context.wrap_socket(sock, server_side=True)
            head, body = self.read_request(sock)
            if head is None:
                return
            lines = head.split("\r\n")
            method, target, _ = lines[0].split(" ", 2)
            host = [line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("host:")][0]
            host = host.rsplit(":", 1)[0] if ":" in host else host
            say("request", method, host, target)
            path = os.path.join(folder, host, target.lstrip("/").split("?")[0].replace("/", "_"))
            if target == "/echo":
                said = head.encode("latin-1") + b"\n\n" + body
                response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said) + said
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    response = file.read()
            else:
                response = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
            if response.startswith(b"HANG"):
                sock.sendall(response[4:])
                try:
                    while sock.recv(65536):
                        pass
                except OSError:
                    pass
                say("gone", method, host, target)
                return
            # one request for each connection, and the client knows
            sock.sendall(response.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            if context:
                sock = sock.unwrap()
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):  # closed with octets unread, the client would see a reset
                pass
        except (OSError, ssl.SSLError) as error:
            say("failed", type(error).__name__, error)
        finally:
            sock.close()


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


with Server(("127.0.0.1", 0), Handler) as server:
    say("listening on port", server.server_address[1])
    server.serve_forever()
