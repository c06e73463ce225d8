"""Constant load for some seconds, or until SIGTERM: python3 -c THIS HOST HTTP-PORT LINES-PORT SECONDS

Three callers at once: `single` makes a connection for each request, `kept` asks on one connection until an answer says that it was the last, `long` says a line now and then on one
that is no HTTP. A connection that ends is made anew. Prints a line of JSON for each: how much was `answered`, how much `failed` at the first attempt, and the `ages` in seconds at which kept connections ended.
"""
import json
import signal
import socket
import sys
import threading
import time

host, http_port, lines_port, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
is_over = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: is_over.set())
REQUEST = b"GET /steady/%s HTTP/1.1\r\nHost: shop\r\n%s\r\n"


def read_answer(sock):
    answer = b""
    while not answer.endswith(b"\r\n\r\nok\n"):
        if not (chunk := sock.recv(4096)):
            raise OSError("ended")
        answer += chunk
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise OSError("refused")
    return b"\r\nConnection: close\r\n" in answer


def say_line(sock):
    sock.sendall(b"line\n")
    if sock.recv(16) != b"line\n":
        raise OSError("ended")
    time.sleep(0.1)


def ask(name, head=b""):
    def work(sock):
        sock.sendall(REQUEST % (name, head))
        return read_answer(sock)

    return work


def steady(name, port, work, is_kept):
    told = {"name": name, "answered": 0, "failed": 0, "ages": []}
    sock = opened = None
    end = time.monotonic() + seconds
    while time.monotonic() < end and not is_over.is_set():
        try:
            if sock is None:
                sock, opened = socket.create_connection((host, port), timeout=20), time.monotonic()
            is_last = work(sock)
            told["answered"] += 1
            if is_kept and is_last:
                told["ages"].append(round(time.monotonic() - opened, 1))
        except OSError:
            told["failed"] += 1
            if sock is None:
                # Nobody is there: whoever asks again at once learns nothing new.
                time.sleep(0.01)
                continue
            if is_kept:
                told["ages"].append(round(time.monotonic() - opened, 1))
            sock.close()
            sock = None
            continue
        if is_last or not is_kept:
            sock.close()
            sock = None
    # One write: print makes two, between which another caller's line may come.
    sys.stdout.write(json.dumps(told) + "\n")


CALLERS = [
    ("single", http_port, ask(b"single", b"Connection: close\r\n"), False),
    ("kept", http_port, ask(b"kept"), True),
    ("long", lines_port, say_line, True),
]
threads = [threading.Thread(target=steady, args=caller) for caller in CALLERS]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
