"""Connects to HOST PORT as one user and lets the connection end up elsewhere: python3 -c USERS.PY+THIS MODE HOST PORT OWNER OTHER PATH.

Started as root, which only becomes the users. It sends its request, prints the line `ready` once the sockets are where the mode wants them, and then what is answered.
"""
import os
import socket
import sys

mode, host, port, owner, other, path = sys.argv[1:]
request = f"GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n".encode()
PRINT_ANSWER = 'IFS= read -r -t 8 -u 9 line; printf "%s\\n" "$line"'


def connect():
    sock = socket.create_connection((host, int(port)), 5)
    sock.sendall(request)
    return sock


def answer(sock):
    sock.settimeout(8)
    try:
        print(sock.recv(65536).decode("latin1"), flush=True)
    except OSError as error:
        print(f"no answer: {error}", flush=True)


def honest(uid):
    become(uid)
    sock = connect()
    ready()
    answer(sock)


def execute(uid):
    """Another program is there by the time that somebody looks."""
    become(uid)
    sock = connect()
    os.dup2(sock.fileno(), 9)
    # The new program says that it is there: before that, the old one would be seen by an agent that is quick.
    os.execv("/bin/bash", ["bash", "-c", f"echo ready; {PRINT_ANSWER}"])


def vanish(uid):
    """The process has ended, and its number belongs to a process of the other user."""
    pid = os.fork()
    if pid == 0:
        become(uid)
        connect()
        os._exit(0)
    os.waitpid(pid, 0)
    heir = take_number(pid, owner, 4)
    ready()
    os.waitpid(heir, 0)
    print("no answer: it has ended", flush=True)


def passed(giver, taker, keeps):
    """By SCM_RIGHTS, from one user to the other."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        become(giver)
        sock = connect()
        socket.send_fds(ours, [b"x"], [sock.fileno()])
        if keeps:
            answer(sock)
        os._exit(0)
    ours.close()
    become(taker)
    _, fds, _, _ = socket.recv_fds(theirs, 1, 1)
    if not keeps:
        os.wait()
    ready()
    answer(socket.socket(fileno=fds[0]))


def inherited(maker, heir):
    """Both users hold what one of them made."""
    os.setgroups([])
    os.setresgid(maker, maker, 0)
    os.setresuid(maker, maker, 0)
    sock = connect()
    os.setresuid(0, 0, 0)
    os.setresgid(0, 0, 0)
    if os.fork() == 0:
        become(maker)
        answer(sock)
        os._exit(0)
    become(heir)
    ready()
    answer(sock)


owner, stranger = int(owner), int(other)
if mode == "honest":
    honest(owner)
elif mode == "exec":
    execute(owner)
elif mode == "vanish":
    vanish(stranger)
elif mode == "passed-away":
    passed(owner, stranger, False)
elif mode == "passed-and-kept":
    passed(owner, stranger, True)
elif mode == "borrowed":
    passed(stranger, owner, False)
elif mode == "inherited":
    inherited(owner, stranger)
else:
    sys.exit(f"unknown mode {mode}")
