"""A peer that is killed: it holds a batch and has half written its answer, and stays so.

It says ``HALF`` on the socket when it is so far.
"""

import socket
import struct

import peer


def main():
    """Writes into the slot of its first batch, and never publishes it."""
    side = peer.Peer(socket.socket(fileno=0), peer.step_columns(), rows=4, slots=2)
    while side.reader.next() is None:
        if not side.wait():
            return
    struct.pack_into("=QII", side.writer.memory, peer.HEADER_BYTES, 0, 4, 0)
    side.channel.send(b"HALF")
    while side.wait():
        pass


if __name__ == "__main__":
    main()
