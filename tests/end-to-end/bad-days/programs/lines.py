"""Connections that are kept open: python3 -c THIS serve PORT | crowd FOLDER HOST PORT COUNT [HALT]

The server gives back each line. The crowd opens COUNT connections one after another, says a line on each, and prints `open N refused M`, with the longest wait for a
refusal in milliseconds. Behind the first HALT it waits for the file `on` in FOLDER. Then, for each file that appears in FOLDER: `again` lets every open connection say a line, and prints `works N lost M`; `end` closes them.
"""
import os
import selectors
import socket
import sys
import time


def serve(port):
    selector = selectors.DefaultSelector()
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                selector.register(listener.accept()[0], selectors.EVENT_READ)
                continue
            try:
                text = key.fileobj.recv(4096)
                key.fileobj.sendall(text)
            except OSError:
                text = b""
            if not text:
                selector.unregister(key.fileobj)
                key.fileobj.close()


def works(sock):
    try:
        sock.sendall(b"line\n")
        return sock.recv(16) == b"line\n"
    except OSError:
        return False


def crowd(folder, host, port, count, halt):
    held, refused, longest = [], 0, 0.0
    for number in range(count):
        if number == halt:
            wait_for(f"{folder}/on")
        begun = time.monotonic()
        try:
            sock = socket.create_connection((host, port), timeout=20)
        except OSError:
            sock = None
        if sock is not None and works(sock):
            held.append(sock)
        else:
            refused += 1
            longest = max(longest, time.monotonic() - begun)
    print(f"open {len(held)} refused {refused} longest {longest * 1000:.0f}", flush=True)
    wait_for(f"{folder}/again")
    alive = sum(works(sock) for sock in held)
    print(f"works {alive} lost {len(held) - alive}", flush=True)
    wait_for(f"{folder}/end")


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.05)


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]))
else:
    crowd(*sys.argv[2:4], *map(int, sys.argv[4:6]), int(sys.argv[6]) if len(sys.argv) > 6 else None)
