"""Small messages with descriptors over a sequenced-packet socket."""

import json
import socket

MESSAGE_BYTES_MAX = 64 * 1024
DESCRIPTORS_MAX = 16


class Channel:
    def __init__(self, fd):
        self.socket = socket.socket(fileno=fd)
        self.socket.setblocking(True)

    def fileno(self):
        return self.socket.fileno()

    def send(self, message, fds=()):
        self.send_bytes(json.dumps(message).encode(), fds)

    def send_bytes(self, data, fds=()):
        socket.send_fds(self.socket, [data], list(fds))

    def receive_bytes(self):
        """The next message and its descriptors; `b""` when the other side has gone."""
        data, fds, _, _ = socket.recv_fds(self.socket, MESSAGE_BYTES_MAX, DESCRIPTORS_MAX)
        return data, fds

    def receive(self):
        """The next message as JSON and its descriptors; `None` when the other side has gone."""
        data, fds = self.receive_bytes()
        return (json.loads(data) if data else None), fds
