"""Sends bytes as they are and prints what came back: python3 -c THIS HOST PORT HEX PATIENT_SECONDS QUIET_SECONDS.

It waits so long for the first byte, and then until the other side ends or says nothing for so long.
"""
import socket
import sys

host, port, data, patient, quiet = sys.argv[1:]
sock = socket.create_connection((host, int(port)), float(patient))
answer = b""
try:
    sock.sendall(bytes.fromhex(data))
    while chunk := sock.recv(65536):
        answer += chunk
        sock.settimeout(float(quiet))
except OSError:
    pass
sys.stdout.buffer.write(answer.hex().encode())
