"""An engine that is connected."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from typing import TYPE_CHECKING, Any

from envmill_ring import Reader, RingError, Writer
from envmill_vllm import rows
from envmill_vllm.engine import cut, failure
from envmill_vllm.generation import Generation, Ranked

if TYPE_CHECKING:
    from envmill_vllm.door import Door

log = logging.getLogger("vllm.envmill")

GENERATIONS_MAX = 1 << 16
"""So many generations of one engine may be under way; more are told that there is no room."""

CONTROLS_MAX = 256
"""So many other questions of one engine may be under way."""

ABORT_AGAIN_S, ABORTS_MAX = 0.05, 20
"""vLLM does not know a generation that it is about to take: an abort is told again, so often."""


class Peer:
    """Both segments, both doorbells, and what is under way."""

    def __init__(
        self, door: Door, channel: socket.socket, name: str, hello: rows.Hello, segment: int, bell: int,
        their_bell: int,
    ) -> None:  # fmt: skip
        self.door, self.engine, self.loop = door, door.engine, door.loop
        self.name, self.channel, self.hello = name, channel, hello
        self.reader = Reader(segment, rows.REQUESTS)
        self.writer = Writer(rows.results(hello), hello.rows, hello.slots)
        self.generations: dict[int, Generation] = {}
        self.controls: set[asyncio.Task[None]] = set()
        # What is to be told, in the order in which it came up: one entry for each number.
        self.told: dict[int, Generation] = {}
        self.flushing = False
        try:
            welcome = json.dumps({"version": rows.VERSION, "engine": door.name}).encode()
            socket.send_fds(channel, [welcome], [self.writer.fd])
        finally:
            os.close(self.writer.fd)
        self.bell, self.their_bell = bell, their_bell
        self.loop.add_reader(channel.fileno(), self._hear)
        self.loop.add_reader(bell, self._rung)
        # The mapping stays. Last, so that whoever calls knows which descriptors are left if this fails.
        os.close(segment)

    def close(self, why: str) -> None:
        """Forgets the engine, and aborts what it has asked for."""
        if self.channel.fileno() < 0:
            return
        log.info("%s is gone: %s", self.name, why)
        self.loop.remove_reader(self.channel.fileno())
        self.loop.remove_reader(self.bell)
        self.channel.close()
        os.close(self.bell)
        os.close(self.their_bell)
        self._forget(list(self.generations))
        # What was begun of a change of weights is not left half done: controls go on to their end.
        self.told.clear()
        self.door.peers.discard(self)

    def _hear(self) -> None:
        """Nothing is said on the channel: it only ends."""
        try:
            message, fds, _, _ = socket.recv_fds(self.channel, 65536, 16, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(str(error))
            return
        for fd in fds:
            os.close(fd)
        self.close("it says something that is not understood" if message else "it has hung up")

    def _rung(self) -> None:
        try:
            # Before the counters are looked at: what comes later rings again.
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.bell)
            # Room may have been made, too.
            self._flush()
            for _ in range(self.reader.slots):
                if (batch := self.reader.next()) is None:
                    return
                asks = list(rows.read(batch))
                self.reader.release(self.writer)
                if self.reader.peer_waits():
                    self._ring()
                self._take(asks)
            # Others of the event loop come first.
            self.loop.call_soon(self._look_again)
        except (RingError, OSError) as error:
            self.close(f"it makes no sense: {error}")

    def _look_again(self) -> None:
        if self.channel.fileno() >= 0:
            self._rung()

    def _take(self, asks: list[rows.Ask]) -> None:
        forgotten, aborted = [], []
        for ask in asks:
            if ask.kind == rows.GENERATE:
                self._generate(ask)
            elif ask.kind == rows.FORGET:
                forgotten.append(ask.number)
            elif ask.kind == rows.ABORT:
                aborted.append(ask.number)
            else:
                self._control(ask)
        if forgotten:
            self._forget(forgotten)
        if aborted:
            self._abort(aborted, 1)

    def _generate(self, ask: rows.Ask) -> None:
        if ask.number in self.generations or ask.number in self.told:
            raise RingError(f"two generations of the number {ask.number}")
        name, wants_logprobs = f"{self.name}-{ask.number}", bool(ask.flags & rows.LOGPROBS)
        if ask.top_logprobs:
            generation: Generation = Ranked(ask.number, name, wants_logprobs, ask.top_logprobs)
        else:
            generation = Generation(ask.number, name, wants_logprobs)
        if len(self.generations) >= GENERATIONS_MAX:
            generation.result = rows.Result(
                ask.number, rows.FAILED, rows.BUSY, text=cut("too many generations are under way")
            )
            self.tell(generation)
            return
        self.generations[ask.number] = generation
        generation.task = self.loop.create_task(generation.play(self, ask))

    def _forget(self, numbers: list[int]) -> None:
        """Ends generations that nobody wants any more."""
        names = []
        for number in numbers:
            self.told.pop(number, None)
            if (generation := self.generations.pop(number, None)) and generation.task:
                generation.forgotten = True
                generation.task.cancel()
                names.append(generation.name)
        if names:
            # A task that is cancelled while vLLM takes its request does not abort it.
            self._spawn(self.engine.abort(names))

    def _abort(self, numbers: list[int], nth: int) -> None:
        """Ends generations whose tokens are still wanted."""
        playing = [it for it in map(self.generations.get, numbers) if it and it.result is None]
        if not playing:
            return
        if nth > ABORTS_MAX:
            for generation in playing:
                generation.result = rows.Result(generation.number, rows.END, rows.ABORTED)
                if generation.task:
                    generation.task.cancel()
                self.tell(generation)
            return
        self._spawn(self.engine.abort([it.name for it in playing]))
        numbers = [it.number for it in playing]
        self.loop.call_later(ABORT_AGAIN_S, self._abort, numbers, nth + 1)

    def _control(self, ask: rows.Ask) -> None:
        answer = Generation(ask.number, "", False)
        if len(self.controls) >= CONTROLS_MAX:
            answer.result = rows.Result(ask.number, rows.FAILED, rows.BUSY, text=b"too many questions")
            self.tell(answer)
            return
        self._spawn(self._answer(ask, answer))

    async def _answer(self, ask: rows.Ask, answer: Generation) -> None:
        try:
            if ask.kind == rows.LOAD:
                answer.result = rows.Result(ask.number, rows.BUSY_IS, text=self.engine.load())
            else:
                await self.engine.control(ask.kind, ask.text.decode())
                answer.result = rows.Result(ask.number, rows.DONE)
        except Exception as error:
            why, text = failure(error)
            answer.result = rows.Result(ask.number, rows.FAILED, why, text=text)
        self.tell(answer)

    def _spawn(self, doing: Any) -> None:
        async def done() -> None:
            try:
                await doing
            except Exception as error:
                log.warning("%s: %s", self.name, error)

        task = self.loop.create_task(done())
        self.controls.add(task)
        task.add_done_callback(self.controls.discard)

    def tell(self, generation: Generation) -> None:
        """Something is to be told of a generation. All that comes up in a turn of the event loop is one
        batch."""
        if self.channel.fileno() < 0:
            return
        self.told[generation.number] = generation
        if not self.flushing:
            self.flushing = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self.flushing = False
        try:
            while self.told and self.channel.fileno() >= 0:
                if (views := self.writer.begin_or_wait(self.reader)) is None:
                    # The engine rings when it has made room; until then tokens gather in generations.
                    return
                batch = rows.Batch(self.writer.rows, self.hello)
                while self.told:
                    number, generation = next(iter(self.told.items()))
                    if not generation.give(batch):
                        break
                    del self.told[number]
                    if generation.result is not None:
                        self.generations.pop(number, None)
                batch.write(self.writer, views)
                self.writer.publish(len(batch.heads))
                self._ring()
        except (RingError, OSError) as error:
            self.close(f"it makes no sense: {error}")
        except Exception as error:
            # A mistake of ours is not the server's end.
            log.exception("%s", self.name)
            self.close(f"its answers cannot be written: {error}")

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self.their_bell, 1)
