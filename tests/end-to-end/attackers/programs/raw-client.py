"""Sends bytes as they are and prints what came back: python3 -c THIS HOST PORT HEX QUIET_SECONDS."""
import socket
import sys

host, port, data, quiet = sys.argv[1:]
sock = socket.create_connection((host, int(port)), 5)
sock.settimeout(float(quiet))
answer = b""
try:
    sock.sendall(bytes.fromhex(data))
    while chunk := sock.recv(65536):
        answer += chunk
except OSError:
    pass
sys.stdout.buffer.write(answer.hex().encode())
