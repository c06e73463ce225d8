"""One request that comes no further than its stage: python3 -c THIS HOST PORT STAGE PATH

It prints `sent` once everything was given to the kernel, then all that comes back, and at last `over: ` and how the connection ended.
Stages: `get` asks and waits; `body` sends half of a body; `idle` asks, takes the answer, and keeps the connection.
"""
import socket
import sys

host, port, stage, path = sys.argv[1:]
HEADS = {
    "get": f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n",
    "idle": f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n",
    "body": f"POST {path} HTTP/1.1\r\nHost: shop\r\nContent-Length: 100000\r\n\r\n" + "x" * 50000,
}
try:
    with socket.create_connection((host, int(port)), timeout=60) as sock:
        sock.sendall(HEADS[stage].encode())
        print("sent", flush=True)
        while chunk := sock.recv(65536):
            print(chunk.decode(), flush=True)
    print("over: ended", flush=True)
except OSError as error:
    print("over:", type(error).__name__, flush=True)
