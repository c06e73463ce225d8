"""Requests without end: python3 -c THIS HOST PORT NAME, until its standard input ends.

Threads of three kinds ask one after another, each with a path of its own: `kept` on a connection that is kept, `single` on new ones, `flip` as `kept` below /flip. For each
request a line of JSON: path, the client's port, begun and ended in seconds since 1970, and status or error. No request is made twice.
"""
import http.client
import json
import sys
import threading
import time

PAUSE = 0.02
host, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
over = threading.Event()
printing = threading.Lock()


def ask(connection, path):
    begun = time.time()
    told = {"path": path, "begun": begun}
    try:
        connection.request("GET", path)
        told["port"] = connection.sock.getsockname()[1]
        answer = connection.getresponse()
        answer.read()
        told["status"] = answer.status
        closes = answer.will_close
    except (OSError, http.client.HTTPException) as error:
        told["error"] = repr(error)
        closes = True
    told["ended"] = time.time()
    with printing:
        print(json.dumps(told), flush=True)
    return closes


def go(kind, keeps):
    connection, turn = None, 0
    while not over.is_set():
        turn += 1
        if connection is None:
            connection = http.client.HTTPConnection(host, port, timeout=10)
        if ask(connection, f"/{kind}/{name}-{turn}") or not keeps:
            connection.close()
            connection = None
        over.wait(PAUSE)


threads = [threading.Thread(target=go, args=args) for args in (("kept", True), ("single", False), ("flip", True))]
for thread in threads:
    thread.start()
sys.stdin.read()
over.set()
for thread in threads:
    thread.join()
