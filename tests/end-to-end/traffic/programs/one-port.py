"""Calls each server from the same port of its own, one beside the other, and prints those that have greeted it: python3 -c THIS HOST:PORT..."""
import socket
import sys

port, calls = 0, []
for server in sys.argv[1:]:
    host, _, number = server.partition(":")
    call = socket.socket()
    call.settimeout(10)
    call.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    call.bind(("0.0.0.0", port))
    port = call.getsockname()[1]
    call.connect((host, int(number)))
    calls.append((server, call))
for server, call in calls:
    if call.recv(1):
        print(server)
