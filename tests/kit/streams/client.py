"""Holds COUNT streams of HOST: half of them plain at TCP_PORT, half answers at HTTP_PORT (one kind alone where the other port is 0).

Prints "open" when each has said its first number. At "alive" on its standard input it prints how many go on; at "report" a line of JSON: the streams that have ended, with their own port,
kind, when their last byte came and when they ended (milliseconds since 1970) and how; how many go on, and how many numbers the one that is the furthest behind has said; and whether a number was missing anywhere.
"""
import json
import os
import selectors
import socket
import sys
import time

host, tcp_port, http_port, count = sys.argv[1], *map(int, sys.argv[2:5])
# So many are being opened at once: a listener's backlog is no part of what is tested.
AT_ONCE = 64
selector = selectors.DefaultSelector()
streams, ended, gaps = set(), [], 0
opened = 0


class Stream:
    def __init__(self, is_http):
        self.is_http, self.said, self.rest, self.last, self.in_body = is_http, 0, b"", 0, not is_http
        self.socket = socket.create_connection((host, http_port if is_http else tcp_port), 60)
        self.port = self.socket.getsockname()[1]
        if is_http:
            self.socket.sendall(b"GET /stream HTTP/1.1\r\nHost: streams\r\n\r\n")
        self.socket.setblocking(False)
        selector.register(self.socket, selectors.EVENT_READ, self)
        streams.add(self)

    def readable(self):
        try:
            got = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            return self.end(type(error).__name__)
        if not got:
            return self.end("end")
        self.last = time.time() * 1000
        self.take(got)

    def take(self, got):
        global opened, gaps
        self.rest += got
        if not self.in_body:
            head, end, rest = self.rest.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 200"):
                return self.end(head.split(b"\r\n")[0].decode())
            self.in_body, self.rest = True, rest
        *lines, self.rest = self.rest.split(b"\n")
        # Of a chunk "3\r\n12\n\r\n": size, number, nothing.
        for line in lines:
            if line.endswith(b"\r") or line == b"":
                continue
            self.said += 1
            if int(line) != self.said:
                gaps += 1
            if self.said == 1:
                opened += 1

    def end(self, how):
        selector.unregister(self.socket)
        self.socket.close()
        streams.discard(self)
        now = time.time() * 1000
        ended.append({"port": self.port, "http": self.is_http, "last": self.last, "ended": now, "how": how})


def kinds():
    for i in range(count):
        yield http_port != 0 and (tcp_port == 0 or i % 2 == 1)


def report():
    behind = min((stream.said for stream in streams), default=0)
    print(json.dumps({"ended": ended, "alive": len(streams), "behind": behind, "gaps": gaps}), flush=True)


def turn():
    for key, _ in selector.select(1):
        if key.data is None:
            asked = os.read(0, 4096)
            if not asked:
                sys.exit(0)
            if b"report" in asked:
                report()
            else:
                print(json.dumps(len(streams)), flush=True)
        else:
            key.data.readable()


made = 0
for is_http in kinds():
    while made - opened - len(ended) >= AT_ONCE:
        turn()
    Stream(is_http)
    made += 1
while opened + len(ended) < count:
    turn()
print("open", flush=True)
selector.register(0, selectors.EVENT_READ, None)
while True:
    turn()
