"""Real UDP sockets for tests. `serve`: an echo at ports, both families. `send`: one datagram after another from one socket, each answered or not."""

import select
import socket
import sys
import time


def serve(ports):
    sockets = []
    for port in ports:
        for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            each = socket.socket(family, socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.bind((address, port))
            sockets.append(each)
    print("serving", flush=True)
    while True:
        for each in select.select(sockets, [], [])[0]:
            data, sender = each.recvfrom(70000)
            print("got", each.getsockname()[1], sender[1], data[:32].decode("latin1"), flush=True)
            each.sendto(data, sender)


def send(address, port, connects, count, size, source_port, patience):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    own = socket.socket(family, socket.SOCK_DGRAM)
    sent = []
    if source_port:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", source_port))
    if connects:
        own.connect((address, port))
    for number in range(count):
        data = (f"n{number} ".encode() + b"x" * size)[: max(size, 8)]
        try:
            own.send(data) if connects else own.sendto(data, (address, port))
            answer = receive(own, sent, patience)
            print("answered" if answer == data else "garbled", number, own.getsockname()[1], flush=True)
        except socket.timeout:
            print("silence", number, flush=True)
        except OSError as error:
            print("refused", number, error.errno, flush=True)
        sent.append(data)
        if number + 1 < count:
            time.sleep(0.1)


def receive(own, sent, patience):
    """The next that comes within so many seconds and is no late answer to one before."""
    end = time.monotonic() + patience
    while True:
        own.settimeout(max(0.001, end - time.monotonic()))
        answer = own.recv(70000)
        if answer not in sent:
            return answer


def resolve(server, name, by_tcp):
    """The address of a name, by one question (RFC 1035) to one server."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + labels + b"\x00\x00\x01\x00\x01"
    own = socket.socket(socket.AF_INET, socket.SOCK_STREAM if by_tcp else socket.SOCK_DGRAM)
    own.settimeout(3)
    own.connect((server, 53))
    own.sendall((len(question).to_bytes(2, "big") if by_tcp else b"") + question)
    print(".".join(str(byte) for byte in own.recv(4096)[-4:]), flush=True)


if sys.argv[1] == "resolve":
    resolve(sys.argv[2], sys.argv[3], sys.argv[4] == "tcp")
elif sys.argv[1] == "serve":
    serve([int(port) for port in sys.argv[2:]])
else:
    send(sys.argv[2], *[int(number) for number in sys.argv[3:9]])
