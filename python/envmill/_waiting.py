"""Waiting in an event loop for what the client's thread has.

That thread never runs Python. It rings a bell, a descriptor that the event loop watches; there is one
for each loop, and nothing waits in a thread of its own.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any, Protocol

from envmill import _native


class Ringing(Protocol):
    """What can tell that there is something to take."""

    def ring(self, bell: _native.Bell, token: int) -> None:
        """Rings for the one with this token, at once if there is something."""


class _LoopBell:
    """The bell of one event loop, and who waits for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._bell = _native.Bell()
        self._waiting: dict[int, set[asyncio.Future[None]]] = {}
        loop.add_reader(self._bell.fileno(), self._rung)

    def _rung(self) -> None:
        for token in self._bell.take():
            for future in self._waiting.get(token, ()):
                if not future.done():
                    future.set_result(None)

    async def wait(self, what: Ringing) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        token = id(what)
        self._waiting.setdefault(token, set()).add(future)
        try:
            what.ring(self._bell, token)
            await future
        finally:
            waiting = self._waiting[token]
            waiting.discard(future)
            if not waiting:
                del self._waiting[token]


_bells: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopBell] = weakref.WeakKeyDictionary()


async def rung(what: Ringing) -> None:
    """Returns when there may be something to take."""
    loop = asyncio.get_running_loop()
    bell = _bells.get(loop)
    if bell is None:
        bell = _bells[loop] = _LoopBell(loop)
    await bell.wait(what)


async def answer(pending: _native.Pending) -> Any:
    """What :meth:`_native.Pending.wait` returns or raises."""
    await rung(pending)
    return pending.answer()
