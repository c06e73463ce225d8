"""As many bytes one way as the other at once, over TCP or as HTTP bodies: python3 -c THIS serve FOLDER PORT | call FOLDER HOST PORT tcp|http BYTES

Neither side reads before the file FOLDER/go is there: until then both are held back by whatever lies between them. How much a side has sent stands in
FOLDER/served and FOLDER/called. Each side prints hashes of what it sent and of what it got.
"""
import hashlib
import os
import socket
import sys
import threading
import time

BLOCK = 1 << 20


def blocks(total, seed):
    """Blocks that differ from each other, so that none can be lost, doubled or swapped unseen."""
    block = bytearray(hashlib.shake_256(seed).digest(BLOCK))
    for number in range(total // BLOCK):
        block[:8] = number.to_bytes(8, "big")
        yield block


def send(sock, total, folder, name):
    hash, sent = hashlib.sha256(), 0
    with open(f"{folder}/{name}", "w") as progress:
        for block in blocks(total, name.encode()):
            hash.update(block)
            sock.sendall(block)
            sent += len(block)
            progress.seek(0)
            progress.write(str(sent))
            progress.flush()
    return hash.hexdigest()


def receive(sock, total, folder):
    while not os.path.exists(f"{folder}/go"):
        time.sleep(0.02)
    hash, got, buffer = hashlib.sha256(), 0, bytearray(BLOCK)
    while got < total and (length := sock.recv_into(buffer, min(BLOCK, total - got))):
        hash.update(memoryview(buffer)[:length])
        got += length
    return hash.hexdigest()


def both_ways(sock, total, folder, name):
    result = {}
    sender = threading.Thread(target=lambda: result.update(sent=send(sock, total, folder, name)))
    sender.start()
    got = receive(sock, total, folder)
    sender.join()
    # In one piece: other threads print too.
    sys.stdout.write(f"{name} {result['sent']} {got}\n")
    sys.stdout.flush()


def read_head(sock):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    return head


def serve_one(sock, folder):
    with sock:
        start = sock.recv(8, socket.MSG_WAITALL)
        total = int.from_bytes(start, "big")
        if start == b"POST /bo":
            total = int(read_head(sock).split(b"Content-Length: ")[1].split(b"\r\n")[0])
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        both_ways(sock, total, folder, "served")


def serve(folder, port):
    listener = socket.create_server(("0.0.0.0", int(port)))
    while True:
        threading.Thread(target=serve_one, args=(listener.accept()[0], folder)).start()


def call(folder, host, port, how, total):
    total = int(total)
    with socket.create_connection((host, int(port))) as sock:
        if how == "tcp":
            sock.sendall(total.to_bytes(8, "big"))
        else:
            sock.sendall(b"POST /both HTTP/1.1\r\nHost: shop\r\nContent-Length: %d\r\n\r\n" % total)
            read_head(sock)
        both_ways(sock, total, folder, "called")


if sys.argv[1] == "serve":
    serve(*sys.argv[2:])
else:
    call(*sys.argv[2:])
