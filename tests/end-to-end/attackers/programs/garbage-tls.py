"""Finishes a TLS handshake and says what standard input holds: python3 -c THIS HOST PORT SERVERNAME ALPN SECONDS [CERT KEY].

Prints how many bytes came back, and `closed` or `open`: whether the other side had ended it after SECONDS.
"""
import socket
import ssl
import sys
import threading
import time

host, port, name, alpn, seconds, *own = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.set_alpn_protocols([alpn])
if own:
    context.load_cert_chain(own[0], own[1])
sock = context.wrap_socket(socket.create_connection((host, int(port)), 10), server_hostname=name)
data = sys.stdin.buffer.read()
end = time.monotonic() + float(seconds)


def say():
    try:
        for at in range(0, len(data), 65536):
            sock.sendall(data[at : at + 65536])
    except OSError:
        pass


threading.Thread(target=say, daemon=True).start()
received = 0
state = "open"
while time.monotonic() < end:
    sock.settimeout(max(0.01, end - time.monotonic()))
    try:
        chunk = sock.recv(65536)
    except TimeoutError:
        break
    except OSError:
        chunk = b""
    if not chunk:
        state = "closed"
        break
    received += len(chunk)
print(received, state, flush=True)
