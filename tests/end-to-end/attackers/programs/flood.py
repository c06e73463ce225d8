"""Opens COUNT connections to HOST PORT, sends HEX on each and holds them for SECONDS: python3 -c THIS HOST PORT COUNT HEX SECONDS. Prints how many stood."""
import resource
import socket
import sys
import time

host, port, count, data, seconds = sys.argv[1:]
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
sockets = []
for _ in range(int(count)):
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex((host, int(port)))
    sockets.append(sock)
time.sleep(1)
standing = 0
for sock in sockets:
    try:
        sock.send(bytes.fromhex(data))
        standing += 1
    except OSError:
        pass
print(standing, flush=True)
time.sleep(float(seconds))
