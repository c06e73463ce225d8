"""Keeps COUNT connections to HOST PORT asking for TARGET, without end and as fast as they are answered: python3 -c THIS HOST PORT COUNT TARGET."""
import selectors
import socket
import sys

host, port, count, target = sys.argv[1:]
request = f"GET {target} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()
burst = request * max(1, 65536 // len(request))
selector = selectors.DefaultSelector()
unsent = {}


def open_one():
    connection = socket.create_connection((host, int(port)))
    connection.setblocking(False)
    unsent[connection] = burst
    selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)


def work(connection, events):
    if events & selectors.EVENT_READ and connection.recv(1 << 20) == b"":
        raise ConnectionError
    if events & selectors.EVENT_WRITE:
        rest = unsent[connection]
        unsent[connection] = rest[connection.send(rest) :] or burst


for _ in range(int(count)):
    open_one()
print("asking", flush=True)
while True:
    for key, events in selector.select():
        try:
            work(key.fileobj, events)
        except BlockingIOError:
            pass
        except ConnectionError:
            selector.unregister(key.fileobj)
            del unsent[key.fileobj]
            open_one()
