"""An application that answers GET /<hex> with those bytes, whatever they are, and does not close: python3 -c THIS PORT."""
import socket
import sys
import threading


def serve(client):
    with client:
        head = b""
        while b"\r\n\r\n" not in head:
            chunk = client.recv(65536)
            if not chunk:
                return
            head += chunk
        target = head.split(b" ")[1].decode()[1:]
        client.sendall(bytes.fromhex(target))
        client.settimeout(3)
        try:
            while client.recv(65536):
                pass
        except OSError:
            pass


listener = socket.create_server(("0.0.0.0", int(sys.argv[1])), backlog=64)
while True:
    threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()
