# An application that reads methods in capitals, as Django and Werkzeug do.
import sys
from wsgiref.simple_server import make_server


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"did {environ['REQUEST_METHOD'].upper()}".encode()]


make_server("0.0.0.0", int(sys.argv[1]), application).serve_forever()
