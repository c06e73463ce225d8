# Reads to the end of what one client sends to PORT, and answers with its SHA-256 then. Usage: digest-server.py PORT
import hashlib, socket, sys

server = socket.create_server(("0.0.0.0", int(sys.argv[1])))
client, _ = server.accept()
digest = hashlib.sha256()
while data := client.recv(65536):
    digest.update(data)
client.sendall(digest.hexdigest().encode())
