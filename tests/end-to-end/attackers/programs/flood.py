"""Opens COUNT connections to HOST PORT, sends HEX on each and holds them for SECONDS: python3 -c THIS HOST PORT COUNT HEX SECONDS [MARK]. Prints how many stood.

What is closed is opened again, up to three times COUNT in all. Each carries the socket mark MARK, if there is one.
"""
import resource
import select
import socket
import sys
import time

host, port, count, data, seconds, *mark = sys.argv[1:]
count = int(count)
data = bytes.fromhex(data)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
SO_MARK = 36
sockets = {}
opened = 0
epoll = select.epoll()


def open_one():
    global opened
    opened += 1
    sock = socket.socket()
    sock.setblocking(False)
    if mark:
        sock.setsockopt(socket.SOL_SOCKET, SO_MARK, int(mark[0]))
    sock.connect_ex((host, int(port)))
    sockets[sock.fileno()] = sock
    epoll.register(sock, select.EPOLLOUT)


def forget(fd):
    epoll.unregister(fd)
    sockets.pop(fd).close()


def look(fd, event):
    sock = sockets[fd]
    try:
        if event & select.EPOLLOUT:
            sock.send(data)
            epoll.modify(fd, select.EPOLLIN)
        elif sock.recv(65536) == b"":
            forget(fd)
    except OSError:
        forget(fd)


end = time.monotonic() + 1 + float(seconds)
for _ in range(count):
    open_one()
told = False
while time.monotonic() < end:
    for fd, event in epoll.poll(0.1):
        look(fd, event)
    if not told and time.monotonic() > end - float(seconds):
        print(len(sockets), flush=True)
        told = True
    while len(sockets) < count and opened < 3 * count:
        open_one()
