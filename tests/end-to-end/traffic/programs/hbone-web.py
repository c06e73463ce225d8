"""A service with two ports: python3 -c THIS HTTP_PORT ECHO_PORT

GET answers with the path, and who calls by X-Forwarded-Client-Cert. The other port gives back what comes as it comes, and `bye` after its end.
"""
import http.server
import socket
import sys
import threading


class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"{self.path} {self.headers.get('X-Forwarded-Client-Cert', 'nobody')}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


def echo_one(sock):
    with sock:
        while piece := sock.recv(1 << 16):
            sock.sendall(piece)
        sock.sendall(b"bye\n")


def echo(port):
    listener = socket.create_server(("", port))
    while True:
        threading.Thread(target=echo_one, args=(listener.accept()[0],), daemon=True).start()


threading.Thread(target=echo, args=(int(sys.argv[2]),), daemon=True).start()
Server(("", int(sys.argv[1])), Web).serve_forever()
