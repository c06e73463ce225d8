"""Asks the Workload API for identities over a connection that is not what it seems: python3 -c USERS.PY+THIS MODE SOCKET OWNER OTHER [PROGRAM ARGUMENT...].

Started as root, which only becomes the users, or as OWNER. It prints the line `ready` once the connection is where the mode wants it, and then `asked` and what was answered, in
as far as it is readable.
"""
import os
import socket
import struct
import sys
import time

mode, path, owner, other, *program = sys.argv[1:]
owner, other = int(owner), int(other)


def field(name, value):
    """HPACK: a literal without indexing, with a new name, nothing of it by Huffman's code."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


HEADERS = b"".join(
    field(name, value)
    for name, value in [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/SpiffeWorkloadAPI/FetchX509SVID"),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"workload.spiffe.io", b"true"),
    ]
)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
REQUEST = frame(1, 4, 1, HEADERS) + frame(0, 1, 1, b"\0\0\0\0\0")


def connect():
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    sock.sendall(PREFACE)
    return sock


def is_over(answer):
    """Whether the server has ended the stream: by a frame with END_STREAM, or by RST_STREAM."""
    while len(answer) >= 9:
        length, kind, flags, stream = int.from_bytes(answer[:3], "big"), *struct.unpack(">BBI", answer[3:9])
        if stream == 1 and (kind == 3 or (kind in (0, 1) and flags & 1)):
            return True
        answer = answer[9 + length :]
    return False


def ask(sock):
    sock.settimeout(20)
    answer = b""
    try:
        sock.sendall(REQUEST)
        while b"spiffe://" not in answer and not is_over(answer) and (chunk := sock.recv(65536)):
            answer += chunk
    except OSError:
        pass
    at = answer.find(b"spiffe://")
    print("asked", answer[at : at + 40].decode("latin1") if at >= 0 else "nothing", flush=True)


def lent(connector, work):
    """A child connects as one user and gives us the connection, and then does `work`."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        become(connector)
        sock = connect()
        if mode.endswith("-late"):
            # The agent has seen it: it has sent its settings.
            sock.recv(9)
        socket.send_fds(ours, [b"x"], [sock.fileno()])
        work()
        os._exit(0)
    _, fds, _, _ = socket.recv_fds(theirs, 1, 1)
    return pid, socket.socket(fileno=fds[0])


def executed():
    """Becomes the program, which waits."""
    os.execv(program[0], program)


def run_by(pid, name):
    return os.path.basename(os.readlink(f"/proc/{pid}/exe")) == name


if mode == "honest":
    become(owner)
    sock = connect()
    ready()
elif mode in ("exec", "exec-late"):
    pid, sock = lent(owner, executed)
    while not run_by(pid, os.path.basename(program[0])):
        time.sleep(0.01)
    become(other)
    ready()
elif mode in ("ended", "ended-late"):
    pid, sock = lent(owner, lambda: None)
    os.waitpid(pid, 0)
    become(other)
    ready()
elif mode in ("reused", "reused-late"):
    pid, sock = lent(other, lambda: None)
    os.waitpid(pid, 0)
    take_number(pid, owner, 6)
    ready()
else:
    sys.exit(f"unknown mode {mode}")
ask(sock)
