"""Sends what comes on standard input as it is, then perhaps its end, and prints all that comes back until the end: python3 -c THIS HOST PORT end|stay|late

With late it begins to read after seven seconds.
"""
import socket
import sys
import time

host, port, then = sys.argv[1:]
with socket.create_connection((host, int(port)), timeout=20) as sock:
    sock.sendall(sys.stdin.buffer.read())
    if then == "end":
        sock.shutdown(socket.SHUT_WR)
    if then == "late":
        time.sleep(7)
    while chunk := sock.recv(1 << 16):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
