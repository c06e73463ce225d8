"""Sends what comes on standard input as it is, then perhaps its end, and prints all that comes back until the end: python3 -c THIS HOST PORT end|stay"""
import socket
import sys

host, port, then = sys.argv[1:]
with socket.create_connection((host, int(port)), timeout=20) as sock:
    sock.sendall(sys.stdin.buffer.read())
    if then == "end":
        sock.shutdown(socket.SHUT_WR)
    while chunk := sock.recv(1 << 16):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
