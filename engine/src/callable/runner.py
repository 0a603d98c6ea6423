"""A process that runs a user's Python function: the first part of what the engine runs as ``python -c``.

The arguments are ``module:function`` and directories to look for modules in. Standard input is a socket;
what is on it are frames, a length (8 bytes, little-endian) and so many bytes of JSON. First
``{"ready": true}`` or ``{"failed": WHY}``; then each frame is answered by one, and what is in them the
second part says.

Nothing that the function prints or reads comes near that: its standard input is empty, and standard
output is the log.
"""

import asyncio
import importlib
import inspect
import json
import math
import os
import signal
import socket
import struct
import sys
import traceback


class Channel:
    def __init__(self):
        self.socket = socket.socket(fileno=os.dup(0))
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)

    def receive(self):
        """The next frame; `None` when the engine has gone."""
        length = self.read(8)
        return length and self.read(struct.unpack("<Q", length)[0])

    def read(self, count):
        data = bytearray()
        while len(data) < count:
            some = self.socket.recv(min(count - len(data), 1 << 20))
            if not some:
                return None
            data += some
        return data

    def send(self, answer):
        data = json.dumps(answer).encode()
        self.socket.sendall(struct.pack("<Q", len(data)) + data)


def load(name):
    module, _, function = name.partition(":")
    found = importlib.import_module(module)
    for part in function.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{name} is a {type(found).__name__}, which cannot be called")
    return found


def why(error):
    """An exception in one line, with the last place that it came through."""
    text = "".join(traceback.format_exception_only(type(error), error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    if frames and frames[-1].filename != "<string>":
        text += f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno} in {frames[-1].name})"
    return text


def awaited(loop, value):
    """What a function gave, or what that comes to."""
    if not inspect.isawaitable(value):
        return value

    async def result():
        return await value

    return loop.run_until_complete(result())


def serve(begin):
    """Loads the function and answers frames with what `begin` makes of it."""
    try:
        # Interrupts are the engine's business: it ends this process when it wants to.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        channel = Channel()
        name, path = sys.argv[1], sys.argv[2:]
        sys.argv[1:] = []
        sys.path[:0] = path
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            answer = begin(load(name), loop)
        except BaseException as error:  # noqa: BLE001
            traceback.print_exc()
            channel.send({"failed": why(error)})
            return
        channel.send({"ready": True})
        while (frame := channel.receive()) is not None:
            channel.send(answer(json.loads(frame)))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Threads that the function has left behind are not waited for.
        os._exit(0)
