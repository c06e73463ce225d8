"""The first message of TLS in pieces: python3 -c THIS serve PORT PEM | call HOST PORT HOW | relay PORT TO-PORT HOW

`serve` speaks TLS and answers a line with `echo: ` before it. `call` says `hello` by TLS and prints the answer; `relay` passes connections on to a port of this host, and prints
`relayed` for each. Both send the ClientHello as HOW says: `whole`; `bytes`, each byte by itself; `records`, in TLS records of 16 bytes; `half` of it and no more for some seconds.
"""
import socket
import ssl
import sys
import threading
import time

RECORD_HEAD = 5
HELD_SECONDS = 3


def records_of(hello):
    content = hello[RECORD_HEAD:]
    parts = [content[i : i + 16] for i in range(0, len(content), 16)]
    return [hello[:3] + len(part).to_bytes(2, "big") + part for part in parts]


def send_hello(sock, hello, how):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if how == "half":
        sock.sendall(hello[: len(hello) // 2])
        return
    pieces = {
        "whole": lambda: [hello],
        "bytes": lambda: [hello[i : i + 1] for i in range(len(hello))],
        "records": lambda: records_of(hello),
    }[how]()
    for piece in pieces:
        sock.sendall(piece)
        time.sleep(0.001)


def read_hello(sock):
    hello = b""
    while len(hello) < RECORD_HEAD or len(hello) < RECORD_HEAD + int.from_bytes(hello[3:5], "big"):
        chunk = sock.recv(65536)
        if not chunk:
            return None
        hello += chunk
    return hello


def pump(source, sink):
    try:
        while chunk := source.recv(65536):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for sock in (source, sink):
            sock.close()


def relay_one(near, to, how):
    hello = read_hello(near)
    if hello is None:
        return
    far = socket.create_connection(("127.0.0.1", to))
    print("relayed", flush=True)
    back = threading.Thread(target=pump, args=(far, near), daemon=True)
    back.start()
    send_hello(far, hello, how)
    if how != "half":
        pump(near, far)
    back.join()


def listen(port):
    listener = socket.create_server(("0.0.0.0", port), backlog=128)
    while True:
        yield listener.accept()[0]


def relay(port, to, how):
    for near in listen(port):
        threading.Thread(target=relay_one, args=(near, to, how), daemon=True).start()


def echo(sock, context):
    try:
        with context.wrap_socket(sock, server_side=True) as tls:
            tls.sendall(b"echo: " + tls.recv(4096))
    except OSError:
        sock.close()


def serve(port, pem):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    for sock in listen(port):
        threading.Thread(target=echo, args=(sock, context), daemon=True).start()


def call(host, port, how):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="tls.example.org")
    with socket.create_connection((host, port), timeout=20) as sock:
        is_first = True

        def step(work):
            nonlocal is_first
            while True:
                try:
                    result = work()
                except ssl.SSLWantReadError:
                    result = None
                if sent := outgoing.read():
                    send_hello(sock, sent, how) if is_first else sock.sendall(sent)
                    if is_first and how == "half":
                        time.sleep(HELD_SECONDS)
                        sys.exit(1)
                    is_first = False
                if result is not None:
                    return result
                if not (chunk := sock.recv(65536)):
                    sys.exit(2)
                incoming.write(chunk)

        step(lambda: tls.do_handshake() or True)
        step(lambda: tls.write(b"hello\n"))
        print(step(lambda: tls.read(4096)).decode(), end="")


{
    "serve": lambda port, pem: serve(int(port), pem),
    "call": lambda host, port, how: call(host, int(port), how),
    "relay": lambda port, to, how: relay(int(port), int(to), how),
}[sys.argv[1]](*sys.argv[2:])
