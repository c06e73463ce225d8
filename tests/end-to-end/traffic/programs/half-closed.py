"""Both ends of half-closed connections: python3 -c THIS serve HOW:PORT... | call HOW HOST PORT

HOW is who ends first. `client`: the server reads to the end, waits a little and gives everything back. `server`: the server says bye and ends, then takes all that
comes. The client prints hashes of what it sent and what it got, the server of what it got after its own end.
"""
import hashlib
import os
import socket
import sys
import threading
import time

SIZE = 8 << 20
# Longer than an agent lingers on anything that has ended, in pieces.
PIECES, PAUSE = 64, 0.1


def read_all(sock):
    received = bytearray()
    while chunk := sock.recv(1 << 16):
        received += chunk
    return bytes(received)


def send_slowly(sock, data):
    step = -(-len(data) // PIECES)
    for at in range(0, len(data), step):
        sock.sendall(data[at : at + step])
        time.sleep(PAUSE)


def digest(data):
    return hashlib.sha256(data).hexdigest()


def serve_one(sock, how):
    with sock:
        if how == "client":
            send_slowly(sock, read_all(sock))
        else:
            sock.sendall(b"bye")
            sock.shutdown(socket.SHUT_WR)
            # In one piece: other threads print too.
            sys.stdout.write(digest(read_all(sock)) + "\n")
            sys.stdout.flush()


def serve(how, port):
    listener = socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        threading.Thread(target=serve_one, args=(listener.accept()[0], how), daemon=True).start()


def call(how, host, port):
    data = os.urandom(SIZE)
    with socket.create_connection((host, int(port))) as sock:
        if how == "client":
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            received = read_all(sock)
        else:
            received = read_all(sock)
            send_slowly(sock, data)
    print(digest(data), digest(received), len(received))


if sys.argv[1] == "call":
    call(*sys.argv[2:])
else:
    for each in sys.argv[2:]:
        threading.Thread(target=serve, args=each.split(":")).start()
