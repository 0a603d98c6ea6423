"""A generation under way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from envmill_vllm import rows
from envmill_vllm.engine import failure

if TYPE_CHECKING:
    from envmill_vllm.peer import Peer


class Generation:
    """What was sampled and not told yet, and how it ended once it has. What gathers here while the
    engine makes no room is at most what it has asked to be sampled."""

    __slots__ = (
        "forgotten",
        "logprobs",
        "name",
        "number",
        "result",
        "task",
        "tokens",
        "wants_logprobs",
    )

    def __init__(self, number: int, name: str, wants_logprobs: bool) -> None:
        self.number, self.name, self.wants_logprobs = number, name, wants_logprobs
        self.task: asyncio.Task[None] | None = None
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.result: rows.Result | None = None
        self.forgotten = False

    async def play(self, peer: Peer, ask: rows.Ask) -> None:
        """Has vLLM sample, and tells what comes."""
        engine = peer.engine
        try:
            async for answer in engine.generate(ask, self.name):
                completion = answer.outputs[0]
                tokens = list(completion.token_ids)
                logprobs = engine.logprobs(completion.logprobs, tokens) if self.wants_logprobs else []
                if len(logprobs) not in (0, len(tokens)):
                    raise ValueError(f"{len(logprobs)} log-probabilities for {len(tokens)} tokens")
                self.tokens += tokens
                self.logprobs += logprobs
                if answer.finished:
                    self.result = engine.end(self.number, answer, completion)
                if self.forgotten:
                    return
                if tokens or self.result:
                    peer.tell(self)
            if self.result is None:
                raise RuntimeError("vLLM has ended the generation without a reason")
        except asyncio.CancelledError:
            # Nobody wants it any more; or it was told already how it ends.
            return
        except Exception as error:
            why, text = failure(error)
            self.result = rows.Result(self.number, rows.FAILED, why, text=text)
            if not self.forgotten:
                peer.tell(self)

    def give(self, batch: rows.Batch) -> bool:
        """Adds what is to be told to a batch. False if that was not all, since the batch is full."""
        result, room = self.result, batch.room()
        if result is not None and len(self.tokens) <= room and batch.fits(result):
            batch.add(result, self.tokens, self.logprobs)
        elif room == 0:
            return False
        elif result is None and len(self.tokens) <= room:
            batch.add(rows.Result(self.number, rows.PART), self.tokens, self.logprobs)
        elif self.tokens:
            # In two parts, of which the second is in the next batch.
            batch.add(rows.Result(self.number, rows.PART), self.tokens[:room], self.logprobs[:room])
            self.tokens, self.logprobs = self.tokens[room:], self.logprobs[room:]
            return False
        else:
            return False
        self.tokens, self.logprobs = [], []
        return True
