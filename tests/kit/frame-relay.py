"""A slow line: frame-relay.py DELAY_MS LOSS_PERCENT NEAR FAR [NEAR FAR]...

Carries Ethernet frames between the interfaces of each pair, both ways, each frame DELAY_MS later, and loses LOSS_PERCENT of them. What sends into the
line must fill in its checksums and cut its segments itself: `frame-relay.py --plain INTERFACE` has an interface do that.
"""

import collections
import ctypes
import fcntl
import random
import select
import socket
import struct
import sys
import time

SIOCETHTOOL = 0x8946
# linux/ethtool.h: transmit checksums, scatter-gather, TCP and generic segmentation, generic receive.
OFFLOADS = (0x17, 0x2C, 0x1F, 0x24, 0x19)
ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_IGNORE_OUTGOING = 23
SO_RCVBUFFORCE = 33
BUFFER_BYTES = 8 * 1024 * 1024
# Of all lines together; what comes beyond is lost, as in a router.
MAX_FRAMES = 50_000
MAX_FRAME_BYTES = 65_536


def make_plain(interface):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for command in OFFLOADS:
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            request = struct.pack("16sP", interface.encode(), ctypes.addressof(value))
            fcntl.ioctl(any_socket, SIOCETHTOOL, request)


def open_end(interface):
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    end.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    end.bind((interface, 0))
    end.setblocking(False)
    return end


def take_in(end, to, queue, delay, loss):
    while True:
        try:
            frame = end.recv(MAX_FRAME_BYTES)
        except BlockingIOError:
            return
        if len(queue) < MAX_FRAMES and random.random() >= loss:
            queue.append((time.monotonic() + delay, to, frame))


def send_due(queue):
    while queue and queue[0][0] <= time.monotonic():
        _, to, frame = queue.popleft()
        try:
            to.send(frame)
        except OSError:
            pass  # The line is full, or its end is down: the frame is lost.


def main():
    delay, loss = float(sys.argv[1]) / 1000, float(sys.argv[2]) / 100
    names = sys.argv[3:]
    poll = select.poll()
    others = {}
    for near, far in zip(names[::2], names[1::2]):
        ends = open_end(near), open_end(far)
        for end, to in (ends, ends[::-1]):
            others[end.fileno()] = end, to
            poll.register(end, select.POLLIN)
    print("carrying", *sys.argv[1:3], flush=True)
    # Every frame waits equally long: they leave in the order in which they came.
    queue = collections.deque()
    while True:
        wait = None if not queue else max(0, queue[0][0] - time.monotonic()) * 1000
        for fd, _ in poll.poll(wait):
            take_in(*others[fd], queue, delay, loss)
        send_due(queue)


if sys.argv[1] == "--plain":
    make_plain(sys.argv[2])
else:
    main()
