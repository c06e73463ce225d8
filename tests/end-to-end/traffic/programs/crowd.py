"""A crowd of kept HTTP connections: python3 -c THIS FOLDER HOST PORT COUNT ACTIVE SECONDS

Opens COUNT connections, each with a request that is answered, and prints `open N`. Once FOLDER/active is there, ACTIVE of them ask one request after another for some
SECONDS; prints `active N` with the number of answers. Once FOLDER/last is there, every connection asks a last time; prints `last N`. A connection that ends or
answers anything but 200 is printed as `lost`.
"""
import os
import selectors
import socket
import sys
import time

folder, host, port, count, active, seconds = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
REQUEST = b"GET /crowd HTTP/1.1\r\nHost: shop\r\n\r\n"
ANSWER_END = b"\r\n\r\nok\n"
# How many ask at once while all of them are asked: fewer than an agent would turn away on a machine that is slow.
AT_ONCE = 100
selector = selectors.DefaultSelector()


class Caller:
    def __init__(self):
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.is_open = False
        self.received = b""

    def begin(self):
        self.received = b""
        if self.is_open:
            self.ask()
        else:
            self.sock.connect_ex((host, port))
            selector.register(self.sock, selectors.EVENT_WRITE, self)

    def ask(self):
        self.sock.send(REQUEST)
        selector.register(self.sock, selectors.EVENT_READ, self)

    def advance(self):
        """True when the answer is whole."""
        selector.unregister(self.sock)
        if not self.is_open:
            if error := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, os.strerror(error))
            self.is_open = True
            self.ask()
            return False
        chunk = self.sock.recv(65536)
        self.received += chunk
        if not chunk or not self.received.startswith(b"HTTP/1.1 200 OK\r\n"[: len(self.received)]):
            raise OSError(f"answered {self.received[:200]}")
        if self.received.endswith(ANSWER_END):
            return True
        selector.register(self.sock, selectors.EVENT_READ, self)
        return False


def run(callers, at_once, until=None):
    """Lets callers ask, each once, or again and again until a time; how many answers there were."""
    waiting, asking, answers = list(callers), 0, 0
    while waiting or asking:
        while waiting and asking < at_once:
            waiting.pop().begin()
            asking += 1
        for key, _ in selector.select():
            caller = key.data
            try:
                if not caller.advance():
                    continue
                answers += 1
                if until and time.monotonic() < until:
                    caller.begin()
                    continue
            except OSError as error:
                print("lost", caller.sock.fileno(), error, flush=True)
            asking -= 1
    return answers


def wait_for(name):
    while not os.path.exists(f"{folder}/{name}"):
        time.sleep(0.05)


crowd = [Caller() for _ in range(count)]
print("open", run(crowd, AT_ONCE), flush=True)
wait_for("active")
print("active", run(crowd[:active], active, time.monotonic() + seconds), flush=True)
wait_for("last")
print("last", run(crowd, AT_ONCE), flush=True)
