"""A scorer over HTTP, on the port that is the argument, written with the standard library alone. With files of a
certificate and its key after the port it speaks HTTPS.

`POST /steps` gives each episode the number of its steps as its reward. `/busy` answers 503 to the first two
calls and then does the same, `/picky` answers 422 to each batch with episode 3 in it, `/page` answers with a
web page, `/secret` wants the token `s3cret`, `/elsewhere` points to that, and anything else is not there.
"""

import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

calls = 0


class Scorer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global calls
        calls += 1
        body = self.rfile.read(int(self.headers["content-length"]))
        episodes = json.loads(body)["episodes"]
        if self.path == "/busy" and calls <= 2:
            return self.answer(503, b"too busy", {"retry-after": "0"})
        if self.path == "/picky" and any(it["group_id"] == 3 for it in episodes):
            return self.answer(422, b"episode 3 cannot be scored")
        if self.path == "/page":
            return self.answer(200, b"<html>")
        if self.path == "/secret" and self.headers["authorization"] != "Bearer s3cret":
            return self.answer(401, f"who asks? not {self.headers['authorization']}".encode())
        if self.path == "/elsewhere":
            return self.answer(307, b"go on", {"location": "/secret"})
        if self.path not in ("/steps", "/busy", "/picky", "/secret"):
            return self.answer(404, b"nothing here")
        scores = [{"reward": len(it["steps"])} for it in episodes]
        self.answer(200, json.dumps({"scores": scores}).encode())

    def answer(self, status, body, headers={}):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Scorer)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[2:])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
