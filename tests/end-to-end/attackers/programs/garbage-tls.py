"""Finishes a TLS handshake and says what standard input holds: python3 -c THIS HOST PORT SERVERNAME ALPN SECONDS [CERT KEY].

Prints how many bytes came back, and `closed` or `open`: whether the other side had ended it after SECONDS.
"""
import select
import socket
import ssl
import sys
import time

PIECE = 65536
host, port, name, alpn, seconds, *own = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.set_alpn_protocols([alpn])
if own:
    context.load_cert_chain(own[0], own[1])
sock = context.wrap_socket(socket.create_connection((host, int(port)), 10), server_hostname=name)
data = memoryview(sys.stdin.buffer.read())
end = time.monotonic() + float(seconds)
# Both directions in one thread: one connection of OpenSSL is not for two.
sock.setblocking(False)
BLOCKED = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


def say():
    """Whether anything was taken. Who is not read any more goes on reading."""
    global data
    try:
        data = data[sock.send(data[:PIECE]) :]
        return True
    except BLOCKED:
        return False
    except OSError:
        data = data[:0]
        return False


def hear():
    """How much came; None: nothing for now, 0: the other side has ended."""
    try:
        return len(sock.recv(PIECE))
    except BLOCKED:
        return None
    except OSError:
        return 0


received = 0
state = "open"
while (left := end - time.monotonic()) > 0:
    has_said = len(data) > 0 and say()
    heard = hear()
    if heard == 0:
        state = "closed"
        break
    received += heard or 0
    if heard is None and not has_said:
        select.select([sock], [sock] if len(data) > 0 else [], [], left)
print(received, state, flush=True)
