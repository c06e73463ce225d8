"""A program that ends its side at once and reads late: python3 -c THIS serve PORT | call HOST PORT FILE

The server answers with SIZE bytes, and says so once it has given all of them away. The client asks, ends its side, reads nothing until the file is there, and prints
how many bytes came, and what broke if something did.
"""
import os
import socket
import sys
import threading
import time

SIZE = 6 << 20


def serve_one(sock):
    with sock:
        while sock.recv(1 << 16):
            pass
        sock.sendall(b"x" * SIZE)
        sock.shutdown(socket.SHUT_WR)
        sys.stdout.write("answered\n")
        sys.stdout.flush()
        # The other side has ended: this waits for nothing but a reset.
        sock.recv(1)


def serve(port):
    listener = socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        threading.Thread(target=serve_one, args=(listener.accept()[0],), daemon=True).start()


def call(host, port, file):
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    received = 0
    with sock:
        sock.connect((host, int(port)))
        sock.sendall(b"question")
        sock.shutdown(socket.SHUT_WR)
        while not os.path.exists(file):
            time.sleep(0.05)
        try:
            while chunk := sock.recv(1 << 16):
                received += len(chunk)
        except OSError as error:
            print("broke", error.strerror, end=" ")
    print("received", received, flush=True)


if sys.argv[1] == "call":
    call(*sys.argv[2:])
else:
    serve(sys.argv[2])
