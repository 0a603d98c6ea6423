"""The socket where engines come."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import socket
import struct
from pathlib import Path

from envmill_ring import RingError
from envmill_vllm import rows
from envmill_vllm.engine import Engine
from envmill_vllm.peer import Peer

log = logging.getLogger("vllm.envmill")

PEERS_MAX = 64
"""So many engines may be connected; more are sent away."""

PATIENCE_S = 10.0
"""How long an engine may take to say who it is."""


class Door:
    """Listens at `path`; each engine that comes is a :class:`~envmill_vllm.peer.Peer`, and is told the
    vLLM's `name`."""

    def __init__(
        self, path: Path, engine: Engine, loop: asyncio.AbstractEventLoop, name: str = ""
    ) -> None:
        self.path, self.engine, self.loop, self.name = path, engine, loop, name
        self.peers: set[Peer] = set()
        self.strangers: dict[socket.socket, asyncio.TimerHandle] = {}
        self.met = 0
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._bind()
        except OSError:
            self.socket.close()
            raise
        self.socket.setblocking(False)
        loop.add_reader(self.socket.fileno(), self._come)
        atexit.register(self.close)

    def _bind(self) -> None:
        if self.path.exists():
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
                try:
                    probe.connect(str(self.path))
                except ConnectionRefusedError:
                    # A killed process has left it.
                    self.path.unlink()
                else:
                    raise OSError("another process serves it (with several API servers the first does)")
        # Before it has a name: the file is made with these permissions, and never has others.
        os.fchmod(self.socket.fileno(), 0o600)
        self.socket.bind(str(self.path))
        self.socket.listen(PEERS_MAX)

    def close(self) -> None:
        """Lets nobody in any more, and ends what engines have asked for."""
        if self.socket.fileno() < 0:
            return
        if not self.loop.is_closed():
            self.loop.remove_reader(self.socket.fileno())
            for peer in list(self.peers):
                peer.close("the server ends")
            for stranger in list(self.strangers):
                self._send_away(stranger)
        self.socket.close()
        with contextlib.suppress(OSError):
            self.path.unlink()
        atexit.unregister(self.close)

    def _come(self) -> None:
        try:
            stranger, _ = self.socket.accept()
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                log.warning("an engine cannot be let in: %s", error)
            return
        stranger.setblocking(False)
        _, user, _ = struct.unpack("3i", stranger.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if user != os.geteuid() or len(self.peers) + len(self.strangers) >= PEERS_MAX:
            stranger.close()
            return
        self.strangers[stranger] = self.loop.call_later(PATIENCE_S, self._send_away, stranger)
        self.loop.add_reader(stranger.fileno(), self._hear, stranger)

    def _send_away(self, stranger: socket.socket) -> None:
        self._forget(stranger)
        stranger.close()

    def _forget(self, stranger: socket.socket) -> None:
        if timer := self.strangers.pop(stranger, None):
            timer.cancel()
            self.loop.remove_reader(stranger.fileno())

    def _hear(self, stranger: socket.socket) -> None:
        """The first message: what the engine wants, its segment, and both doorbells."""
        fds: list[int] = []
        try:
            message, fds, _, _ = socket.recv_fds(stranger, 65536, 16, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        self._forget(stranger)
        self.met += 1
        try:
            hello = rows.read_hello(message)
            if len(fds) != 3:
                raise RingError(f"{len(fds)} descriptors instead of a segment and two doorbells")
            peer = Peer(self, stranger, f"envmill-{os.getpid()}-{self.met}", hello, *fds)
        except (RingError, OSError, ValueError) as error:
            if message:
                log.warning("an engine is sent away: %s", error)
            self.loop.remove_reader(stranger.fileno())
            for fd in fds:
                with contextlib.suppress(OSError):
                    os.close(fd)
            stranger.close()
            return
        self.peers.add(peer)
        log.info("%s is connected", peer.name)
