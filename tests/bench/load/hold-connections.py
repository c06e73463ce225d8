"""Opens COUNT connections to HOST:PORT, asks one request on each, prints "open", and holds them until its standard input ends."""
import socket
import sys

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
held = []
for _ in range(count):
    connection = socket.create_connection((host, port), 20)
    connection.sendall(b"GET /r HTTP/1.1\r\nHost: bench\r\n\r\n")
    answer = b""
    while not answer.endswith(b"hello world\n"):
        got = connection.recv(4096)
        if not got:
            sys.exit(f"connection {len(held) + 1} was closed after {answer!r}")
        answer += got
    held.append(connection)
print("open", flush=True)
sys.stdin.read()
