"""Connections that are idle for long: python3 -c THIS serve PORT | call FOLDER HOST PORT HTTP-PORT

The server says `hello`, gives back each line, and at the end of its client says `bye`. The client opens connections in several states and prints `idle`; once FOLDER/go is
there it goes on with each, and prints the name of each that still works, or why it does not.
"""
import os
import socket
import sys
import threading
import time

REQUEST = b"GET /number/7 HTTP/1.1\r\nHost: shop\r\n\r\n"


def serve_one(sock):
    with sock:
        sock.sendall(b"hello\n")
        for line in sock.makefile("rb"):
            sock.sendall(line)
            if line == b"end\n":
                return end_later(sock)


def end_later(sock):
    """The client has nothing more to say, and the answer takes long."""
    assert sock.recv(1) == b""
    while not os.path.exists(sys.argv[3] + "/go"):
        time.sleep(0.05)
    sock.sendall(b"bye\n")


def serve(port):
    listener = socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        threading.Thread(target=serve_one, args=listener.accept()[:1], daemon=True).start()


class Line:
    """A connection in lines."""

    def __init__(self, host, port):
        self.sock = socket.create_connection((host, int(port)), timeout=10)
        self.file = self.sock.makefile("rb")
        self.expect(b"hello\n")

    def expect(self, wanted):
        if (got := self.file.readline()) != wanted:
            raise OSError(f"got {got}")

    def exchange(self, text=b"again\n"):
        self.sock.sendall(text)
        self.expect(text)


class Silent(Line):
    """The client has never said a word."""

    go_on = Line.exchange


class Used(Line):
    def __init__(self, *where):
        super().__init__(*where)
        self.exchange(b"once\n")

    go_on = Line.exchange


class HalfClosed(Line):
    """The client has ended and the server has not."""

    def __init__(self, *where):
        super().__init__(*where)
        self.exchange(b"end\n")
        self.sock.shutdown(socket.SHUT_WR)

    def go_on(self):
        self.expect(b"bye\n")
        self.expect(b"")


class Http:
    def __init__(self, host, port):
        self.sock = socket.create_connection((host, int(port)), timeout=10)
        self.go_on()

    def go_on(self):
        self.sock.sendall(REQUEST)
        answer = b""
        while not answer.endswith(b"\r\n\r\n7\n"):
            if not (chunk := self.sock.recv(4096)):
                raise OSError(f"ended after {answer}")
            answer += chunk


class HttpBody(Http):
    """A request whose body has begun."""

    def __init__(self, host, port):
        super().__init__(host, port)
        self.sock.sendall(b"POST /late HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\na")

    def go_on(self):
        if hasattr(self, "begun"):
            self.sock.sendall(b"b")
            answer = b""
            while not answer.endswith(b"\r\n\r\n2\n"):
                if not (chunk := self.sock.recv(4096)):
                    raise OSError(f"ended after {answer}")
                answer += chunk
        else:
            self.begun = True
            super().go_on()


def call(folder, host, port, http_port):
    kinds = [(kind, port) for kind in (Silent, Used, HalfClosed)] + [(Http, http_port), (HttpBody, http_port)]
    connections = [kind(host, to) for kind, to in kinds]
    print("idle", flush=True)
    while not os.path.exists(f"{folder}/go"):
        time.sleep(0.05)
    for connection in connections:
        try:
            connection.go_on()
            print(type(connection).__name__, "works", flush=True)
        except OSError as error:
            print(type(connection).__name__, "failed:", error, flush=True)


if sys.argv[1] == "serve":
    serve(sys.argv[2])
else:
    call(*sys.argv[2:])
