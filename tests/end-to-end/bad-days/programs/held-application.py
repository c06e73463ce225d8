"""HTTP/1.1 in which each request can be held: python3 -c THIS PORT

It prints `seen PATH` for each request whose head has come, and `body PATH` for the first byte of a body. /held/... is never answered; everything else is, with `ok`.
"""
import http.server
import sys
import threading


def say(*words):
    """In one piece: other threads print too."""
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        say("seen", self.path)
        if self.path.startswith("/held/"):
            self.connection.recv(1)
            self.close_connection = True
            return
        self.answer()

    def do_POST(self):
        say("seen", self.path)
        left = int(self.headers["Content-Length"])
        got = self.rfile.read(1)
        say("body", self.path)
        while got and left > len(got):
            left -= len(got)
            got = self.rfile.read1(min(left, 65536))
        self.answer() if got else self.give_up()

    def give_up(self):
        self.close_connection = True

    def answer(self):
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        pass


Server(("", int(sys.argv[1])), Handler).serve_forever()
