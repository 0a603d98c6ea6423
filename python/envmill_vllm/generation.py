"""A generation under way."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from envmill_vllm import rows
from envmill_vllm.engine import Engine, failure

if TYPE_CHECKING:
    from envmill_vllm.peer import Peer

Read: TypeAlias = "Callable[[Any, list[int]], list[float]]"
"""The sampled tokens' log-probabilities, from what vLLM has of them."""


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

    def reader(self, engine: Engine) -> Read | None:
        """What reads the log-probabilities that were asked for; `None`: none were."""
        return engine.logprobs if self.wants_logprobs else None

    async def play(self, peer: Peer, ask: rows.Ask) -> None:
        """Has vLLM sample, and tells what comes."""
        engine = peer.engine
        read = self.reader(engine)
        try:
            async for answer in engine.generate(ask, self.name):
                completion = answer.outputs[0]
                tokens = list(completion.token_ids)
                logprobs = read(completion.logprobs, tokens) if read else []
                if len(logprobs) not in (0, len(tokens)):
                    raise ValueError(f"{len(logprobs)} log-probabilities for {len(tokens)} tokens")
                self.tokens += tokens
                self.logprobs += logprobs
                if answer.finished:
                    self.result = engine.end(ask, answer, completion)
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


class Ranked(Generation):
    """One that was asked for the most likely tokens at each place, too: they are kept and told beside
    its own tokens. It is a class of its own, so that others have no work of it."""

    __slots__ = ("most", "top_logprobs", "top_tokens")

    def __init__(self, number: int, name: str, wants_logprobs: bool, most: int) -> None:
        super().__init__(number, name, wants_logprobs)
        self.most = most
        self.top_tokens, self.top_logprobs = array("I"), array("f")

    def reader(self, engine: Engine) -> Read:
        """Reads them all, and keeps those of the most likely tokens."""

        def read(found: Any, tokens: list[int]) -> list[float]:
            logprobs, top_tokens, top_logprobs = engine.ranked(found, tokens, self.most)
            self.top_tokens.extend(top_tokens)
            self.top_logprobs.extend(top_logprobs)
            return logprobs if self.wants_logprobs else []

        return read

    def give(self, batch: rows.Batch) -> bool:
        """With each token that is told go the most likely ones at its place."""
        rows_before, tokens_before = len(batch.heads), len(self.tokens)
        all_told = super().give(batch)
        if len(batch.heads) > rows_before:
            told = (tokens_before - len(self.tokens)) * self.most
            batch.add_top(self.top_tokens[:told].tobytes(), self.top_logprobs[:told].tobytes())
            del self.top_tokens[:told], self.top_logprobs[:told]
        return all_told
