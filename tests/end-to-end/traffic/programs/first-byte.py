"""How long a server's first bytes take, to a client that says nothing and to one that speaks at once, in turn: python3 -c THIS HOST PORT ROUNDS TEXT

Prints JSON: {"silent": [milliseconds, ...], "speaking": [...], "greeting": TEXT}.
"""
import json
import socket
import sys
import time

host, port, rounds, text = sys.argv[1:]


def measure(says):
    started = time.perf_counter()
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        if says:
            sock.sendall(text.encode() + b"\r\n")
        greeting = sock.recv(4096)
        took = (time.perf_counter() - started) * 1000
        return took, greeting.decode("latin1")


results = {"silent": [], "speaking": []}
for _ in range(int(rounds)):
    for name, says in (("silent", False), ("speaking", True)):
        took, greeting = measure(says)
        results[name].append(took)
print(json.dumps({**results, "greeting": greeting}))
