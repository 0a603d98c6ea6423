"""A process that scores episodes with a user's function: run by the engine as ``python -c``.

The arguments are ``module:function`` and directories to look for modules in. Standard input is a socket;
what is on it are frames, a length (8 bytes, little-endian) and so many bytes of JSON. First
``{"ready": true}`` or ``{"failed": WHY}``; then each frame with ``{"episodes": [...]}`` is answered by
``{"scores": [...]}``, ``{"raised": WHY}`` or ``{"malformed": WHY}``.

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


def number(value):
    """A float, from what is one in Python, NumPy or a tensor library."""
    if isinstance(value, (str, bytes)):
        raise TypeError("it is text")
    value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"it is {value}")
    return value


def score(value):
    """One score, as the engine takes it."""
    if value is None:
        return None
    try:
        if not isinstance(value, dict):
            return {"reward": number(value)}
        if value.get("error") is not None:
            return {"error": str(value["error"])}
        answer, place = {}, "reward"
        try:
            if value.get("reward") is not None:
                answer["reward"] = number(value["reward"])
            if value.get("components") is not None:
                answer["components"] = {}
                for name, part in dict(value["components"]).items():
                    place = f"component {name}"
                    answer["components"][str(name)] = number(part)
        except Exception as error:  # noqa: BLE001
            return {"error": f"the {place} is no finite number: {error}"}
        return answer
    except Exception as error:  # noqa: BLE001
        kind = type(value).__name__
        return {"error": f"a score is a finite number, a dict or None, not this {kind}: {error}"}


def answer(function, loop, episodes):
    try:
        scores = function(episodes)
        if inspect.isawaitable(scores):

            async def result():
                return await scores

            scores = loop.run_until_complete(result())
    except BaseException as error:  # noqa: BLE001
        traceback.print_exc()
        return {"raised": why(error)}
    try:
        if isinstance(scores, (dict, str, bytes)):
            raise TypeError
        scores = list(scores)
    except Exception:  # noqa: BLE001
        kind = type(scores).__name__
        return {"malformed": f"the function gave a {kind}, not a list with a score for each episode"}
    return {"scores": [score(value) for value in scores]}


def main():
    # Interrupts are the engine's business: it ends this process when it wants to.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = Channel()
    name, path = sys.argv[1], sys.argv[2:]
    sys.argv[1:] = []
    sys.path[:0] = path
    try:
        function = load(name)
    except BaseException as error:  # noqa: BLE001
        traceback.print_exc()
        channel.send({"failed": why(error)})
        return
    channel.send({"ready": True})
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    while (frame := channel.receive()) is not None:
        channel.send(answer(function, loop, json.loads(frame)["episodes"]))


try:
    main()
finally:
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that the function has left behind are not waited for.
    os._exit(0)
