"""An HTTP/1.1 application on Python's own server: python3 -c THIS PORT

GET /number/N answers N, GET /large four megabytes. POST /echo gives the body back in chunks, as it comes, with its hash in a trailer. GET /slowly answers in pieces over some seconds.
POST /late says how large the body was. Every request is printed with the number of its connection.
"""
import hashlib
import http.server
import itertools
import socket
import sys
import time

numbers = itertools.count(1)


def say(*words):
    """In one piece: other threads print too."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Application(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.number = next(numbers)

    def log_message(self, *args):
        pass

    def handle_expect_100(self):
        say("continue", self.path)
        return super().handle_expect_100()

    def do_GET(self):
        say(self.number, self.command, self.path)
        if self.path == "/slowly":
            return self.answer_chunked((b"piece\n" for _ in range(8)), pause=0.25)
        if self.path == "/large":
            return self.answer(b"x" * ((4 << 20) - 1) + b"\n")
        self.answer(self.path.rsplit("/", 1)[1].encode() + b"\n")

    def do_POST(self):
        say(self.number, self.command, self.path)
        if self.path == "/echo":
            return self.answer_chunked(self.body())
        self.answer(str(sum(map(len, self.body()))).encode() + b"\n")

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            left = int(self.headers["Content-Length"])
            while left > 0:
                piece = self.rfile.read1(min(left, 1 << 16))
                left -= len(piece)
                yield piece
            return
        while size := int(self.rfile.readline().split(b";")[0], 16):
            while size > 0:
                piece = self.rfile.read1(min(size, 1 << 16))
                size -= len(piece)
                yield piece
            self.rfile.readline()
        while self.rfile.readline() != b"\r\n":
            pass

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer_chunked(self, pieces, pause=0):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Trailer", "X-Hash")
        self.end_headers()
        hash = hashlib.sha256()
        for piece in pieces:
            hash.update(piece)
            self.wfile.write(b"%x;name=value\r\n%s\r\n" % (len(piece), piece))
            time.sleep(pause)
        self.wfile.write(b"0\r\nX-Hash: %s\r\n\r\n" % hash.hexdigest().encode())


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


Server(("::", int(sys.argv[1])), Application).serve_forever()
