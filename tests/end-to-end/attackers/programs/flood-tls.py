"""Opens COUNT TLS connections to HOST PORT, finishes each handshake, sends HEX and no more: python3 -c THIS HOST PORT COUNT HEX SECONDS SERVERNAME [CERT KEY ALPN].

Opens until COUNT handshakes were finished, for a minute at most, and then holds what still stands for SECONDS. Prints how many were finished.
"""
import socket
import ssl
import sys
import time

host, port, count, data, seconds, name, *own = sys.argv[1:]
count = int(count)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
if own:
    context.load_cert_chain(own[0], own[1])
    context.set_alpn_protocols([own[2]])
standing = []
finished = 0
latest = time.monotonic() + 60
while finished < count and time.monotonic() < latest:
    try:
        sock = context.wrap_socket(socket.create_connection((host, int(port)), 10), server_hostname=name)
        sock.sendall(bytes.fromhex(data))
    except OSError:
        continue
    finished += 1
    standing.append(sock)
print(finished, flush=True)
time.sleep(float(seconds))
