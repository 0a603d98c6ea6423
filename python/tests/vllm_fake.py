"""A vLLM without a model, and an engine's end of the plug-in's rings."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import struct
import sys
import types
from array import array
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import envmill_ring as ring
from envmill_vllm import rows

HELLO = {"version": 3, "rows": 4, "slots": 2, "tokens_bytes": 256, "text_bytes": 8000}


class VLLMClientError(Exception):
    """As vLLM calls what is wrong with a request."""


class Params(SimpleNamespace):
    """SamplingParams."""

    __struct_fields__ = ("flat_logprobs",)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts what the plug-in imports of vLLM where it is looked for."""
    vllm, sampling = types.ModuleType("vllm"), types.ModuleType("vllm.sampling_params")
    vllm.SamplingParams = Params  # type: ignore[attr-defined]
    sampling.RequestOutputKind = SimpleNamespace(FINAL_ONLY="final", DELTA="delta")  # type: ignore[attr-defined]
    sampling.StructuredOutputsParams = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", sampling)


class Flat:
    """FlatLogprobs."""

    def __init__(self, places: list[list[tuple[int, Any]]]) -> None:
        self.token_ids = [token for place in places for token, _ in place]
        self.logprobs = [it.logprob for place in places for _, it in place]


class Client:
    """EngineClient. It samples the prompt's first token again and again, and stops before an odd token
    999 until it is told to go on. With 998 it fails."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.metrics: Any = SimpleNamespace(queued_ts=100.0, scheduled_ts=100.25)
        # Log-probabilities come as flat lists; and what is sampled is none of the most likely tokens.
        self.flat, self.unlikely = False, False
        self.aborted: dict[str, asyncio.Event] = {}
        self.go = asyncio.Event()

    async def generate(self, prompt: Any, params: Any, name: str) -> AsyncIterator[Any]:
        self.said.append((name, params))
        first = prompt["prompt_token_ids"][0]
        if first == 4095:
            raise VLLMClientError("there is no token 4095")
        if first == 998:
            yield self.output([], params, "error")
            return
        ended = self.aborted.setdefault(name, asyncio.Event())
        tokens: list[int] = []
        try:
            for _ in range(params.max_tokens):
                if first == 999:
                    waits = [asyncio.ensure_future(it.wait()) for it in (self.go, ended)]
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if ended.is_set():
                    break
                tokens.append(first)
                if params.output_kind == "delta" and len(tokens) < params.max_tokens:
                    yield self.output([first], params, None)
                    await asyncio.sleep(0)
            last = tokens[-1:] if params.output_kind == "delta" and not ended.is_set() else tokens
            if params.output_kind == "delta" and ended.is_set():
                last = []
            yield self.output(last, params, "abort" if ended.is_set() else "length", len(tokens))
        finally:
            del self.aborted[name]

    def output(self, tokens: list[int], params: Any, finish: str | None, all_tokens: int = 0) -> Any:
        logprobs = None
        if params.logprobs is not None:
            places = [self.place(it, params.logprobs) for it in tokens]
            logprobs = Flat(places) if self.flat else [dict(it) for it in places]
        spans = None
        if finish:
            spans = [SimpleNamespace(version="default", start=0, end=all_tokens)][: min(all_tokens, 1)]
        completion = SimpleNamespace(
            token_ids=tokens,
            logprobs=logprobs,
            finish_reason=finish,
            stop_reason=None,
            weight_versions=spans,
        )
        return SimpleNamespace(
            outputs=[completion],
            finished=finish is not None,
            num_cached_tokens=3,
            metrics=self.metrics,
        )

    def place(self, token: int, most: int) -> list[tuple[int, Any]]:
        """The sampled token, and then the most likely ones, among which it may be once more."""
        sampled = (token, SimpleNamespace(logprob=-9.5 if self.unlikely else -0.5))
        first = token + self.unlikely
        top = [(first + it, SimpleNamespace(logprob=-0.5 - it)) for it in range(most)]
        return [sampled, *top]

    async def abort(self, names: list[str]) -> None:
        for name in names:
            if name in self.aborted:
                self.aborted[name].set()

    async def pause_generation(self, mode: str) -> None:
        self.said.append(("pause", mode))

    async def resume_generation(self) -> None:
        raise RuntimeError("it does not wake up")

    async def collective_rpc(self, method: str, kwargs: dict[str, str]) -> None:
        self.said.append((method, kwargs))

    async def reset_prefix_cache(self, reset_running_requests: bool) -> bool:
        self.said.append(("reset", reset_running_requests))
        return True

    async def update_weight_version(self, version: str) -> None:
        self.said.append(("version", version))


class Engine:
    """An engine's end, for an event loop that runs the plug-in, too."""

    def __init__(self, path: Path, hello: Any = HELLO) -> None:
        columns = [spec if len(spec) == 3 else (spec[0], 4096) for spec in rows.REQUESTS]
        self.writer = ring.Writer(columns, 4, 2)
        self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.connect(str(path))
        self.bell, self.theirs = (os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(2))
        message = hello if isinstance(hello, bytes) else json.dumps(hello).encode()
        socket.send_fds(self.channel, [message], [self.writer.fd, self.theirs, self.bell])
        self.channel.setblocking(False)

    async def met(self) -> Engine:
        """Waits until the plug-in has answered."""
        message, fds = b"", []
        while not message:
            await asyncio.sleep(0.001)
            try:
                message, fds, _, _ = socket.recv_fds(self.channel, 65536, 16)
            except BlockingIOError:
                continue
            if not message:
                raise EOFError("sent away")
        welcome = json.loads(message)
        assert welcome["version"] == 3
        self.name: str = welcome["engine"]
        self.reader = ring.Reader(fds[0], rows.results(rows.read_hello(json.dumps(HELLO).encode())))
        return self

    def ask(self, *asks: rows.Ask, stop: bytes = b"") -> None:
        """Writes a batch of requests."""
        views = self.writer.begin_or_wait(self.reader)
        assert views is not None
        for spec in rows.REQUESTS:
            if len(spec) == 3:
                values = array(ring.DTYPES[spec[1]][1], [getattr(it, spec[0]) for it in asks])
                views[spec[0]][: len(asks)] = memoryview(values)
        for name in ("tokens", "stop_tokens"):
            lists = [array("I", getattr(it, name) or []) for it in asks]
            ring.put_ragged(views[name], [4 * len(it) for it in lists], sum(lists, array("I")))
        for name in ("text", "schema"):
            texts = [getattr(it, name) for it in asks]
            ring.put_ragged(views[name], [len(it) for it in texts], b"".join(texts))
        self.writer.publish(len(asks))
        os.eventfd_write(self.theirs, 1)

    async def told(self, release: bool = True) -> list[dict[str, Any]]:
        """The rows of the next batch of results."""
        while (batch := self.reader.next()) is None:
            await asyncio.sleep(0.001)
        _, count, _, views = batch
        found: list[dict[str, Any]] = [{} for _ in range(count)]
        for name, *kind in rows.results(rows.Hello(4, 2, 256, 8000)):
            if len(kind) == 2:
                values: list[Any] = views[name][:count].tolist()
            else:
                cells, arena = views[name]
                bounds = ring.offsets(cells, count, arena)
                values = [bytes(arena[a:b]) for a, b in itertools.pairwise(bounds)]
            for row, value in zip(found, values, strict=True):
                row[name] = value
        for row in found:
            for name, form in (("tokens", "I"), ("logprobs", "f")):
                row[name] = list(array(form, row[name]))
                row[f"top_{name}"] = list(array(form, row[f"top_{name}"]))
        if release:
            self.reader.release(self.writer)
            if self.reader.peer_waits():
                os.eventfd_write(self.theirs, 1)
        return found

    async def outcome(self, number: int) -> dict[str, Any]:
        """All rows of one generation, as one, while nothing else is told."""
        names = ("tokens", "logprobs", "top_tokens", "top_logprobs")
        whole: dict[str, list[Any]] = {name: [] for name in names}
        while True:
            for row in await self.told():
                assert row["number"] == number
                for name in names:
                    whole[name] += row[name]
                if row["kind"] != rows.PART:
                    return {**row, **whole}

    def close(self) -> None:
        self.channel.close()
        for fd in (self.bell, self.theirs):
            os.close(fd)


def span(version: int, tokens: int) -> bytes:
    return struct.pack("<QII", version, tokens, 0)
