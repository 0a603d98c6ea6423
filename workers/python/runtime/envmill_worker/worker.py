"""A worker process: takes sessions in, and steps them until the engine goes."""

import json
import os
import sys
import traceback

from . import target
from .channel import Channel
from .port import Gone, Port

# What of an error's text is told; the log has all of it.
ERROR_BYTES_MAX = 16 * 1024


def main(socket_fd, config):
    channel = Channel(socket_fd)
    hello, fds = channel.receive()
    if hello is None:
        return
    try:
        adapter = target.adapter(config)
        if hello["op"] == "describe":
            describe(channel, adapter)
            return
        more = getattr(adapter, "answer_columns", tuple)
        port = Port(channel, hello, fds, more())
    except BaseException as error:  # noqa: BLE001
        traceback.print_exc()
        fail(channel, error)
        return
    channel.send({"op": "ready"}, [port.answers.fd])
    try:
        adapter.serve(port)
    except (Gone, BrokenPipeError, ConnectionResetError):
        pass


def describe(channel, adapter):
    """Tells what the environment is. Schemas may be large, so they go as a memory."""
    description = json.dumps(adapter.describe()).encode()
    fd = os.memfd_create("envmill-description", os.MFD_CLOEXEC)
    view = memoryview(description)
    while view:
        view = view[os.write(fd, view) :]
    channel.send({"op": "described"}, [fd])


def fail(channel, error):
    if isinstance(error, target.TargetError):
        text = str(error)
    else:
        text = "".join(traceback.format_exception(error))
    text = text.encode("utf-8", "replace")[-ERROR_BYTES_MAX:].decode("utf-8", "replace")
    try:
        channel.send({"op": "failed", "error": text})
    except OSError:
        print("envmill: the engine has gone", file=sys.stderr)
