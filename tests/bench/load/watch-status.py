"""Asks http://HOST:PORT/PATH on one connection without a pause, and prints the wall clock in milliseconds and the status whenever the status changes."""
import http.client
import sys
import time

host, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
connection = None
last = None
while True:
    try:
        if connection is None:
            connection = http.client.HTTPConnection(host, port, timeout=5)
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        status = str(answer.status)
    except OSError:
        connection = None
        status = "reset"
    if status != last:
        print(f"{time.time() * 1000:.3f} {status}", flush=True)
        last = status
