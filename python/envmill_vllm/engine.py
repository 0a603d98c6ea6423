"""All that is known of vLLM: what it is asked with, and what it answers."""

from __future__ import annotations

import json
import math
import os
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

from envmill_vllm import rows

_FINISHES = {
    "length": rows.LENGTH,
    "abort": rows.ABORTED,
    # Its name for a generation that repeats itself, where it was told to look for that.
    "repetition": rows.STOP_TEXT,
}

_LOAD = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:kv_cache_usage_perc": "kv_cache",
    "vllm:prefix_cache_queries_total": "prefix_queries",
    "vllm:prefix_cache_hits_total": "prefix_hits",
    "process_start_time_seconds": "started",
}


class Failure(Exception):
    """Something that is not done: why (:mod:`envmill_vllm.rows`), and a text."""

    def __init__(self, why: int, text: str) -> None:
        super().__init__(text)
        self.why = why


class Engine:
    """vLLM's ``EngineClient``, as far as it is used here."""

    def __init__(self, client: Any) -> None:
        # vLLM is there where this is called, and nowhere else.
        self.sampling: Any = import_module("vllm").SamplingParams
        parameters = import_module("vllm.sampling_params")
        self.structured: Any = parameters.StructuredOutputsParams
        self.client = client
        output = parameters.RequestOutputKind
        self.kinds = (output.FINAL_ONLY, output.DELTA)
        fields = getattr(self.sampling, "__struct_fields__", ())
        # Flat lists of log-probabilities rather than a dictionary for each token; and no copy is made
        # of parameters that nobody else has.
        self.further = {it: True for it in ("flat_logprobs", "skip_clone") if it in fields}
        self.numbers: dict[str, int] = {"default": 0}

    def generate(self, ask: rows.Ask, name: str) -> AsyncIterator[Any]:
        """Begins a generation. What is wrong with it is an exception, here or of the iterator."""
        flags = ask.flags
        stop = rows.strings(ask.text)
        if ask.top_logprobs > rows.TOP_MAX:
            wanted = f"{ask.top_logprobs} most likely tokens; at most {rows.TOP_MAX}"
            raise Failure(rows.REFUSED, wanted)
        further = self.further
        if ask.constraint != rows.NO_CONSTRAINT:
            further = {**further, "structured_outputs": self.constraint(ask)}
        params = self.sampling(
            max_tokens=ask.max_tokens,
            min_tokens=ask.min_tokens,
            temperature=ask.temperature,
            top_p=ask.top_p,
            top_k=ask.top_k,
            min_p=ask.min_p,
            seed=ask.seed if flags & rows.SEEDED else None,
            stop_token_ids=ask.stop_tokens or None,
            stop=stop or None,
            include_stop_str_in_output=bool(stop),
            ignore_eos=bool(flags & rows.IGNORE_EOS),
            # With 0, that of the sampled token alone.
            logprobs=ask.top_logprobs or (0 if flags & rows.LOGPROBS else None),
            # Strings that end a generation are looked for in text, and only then is text made.
            detokenize=bool(stop),
            output_kind=self.kinds[bool(flags & rows.STREAMED)],
            **further,
        )
        # A prompt that is rendered already: vLLM has nothing to do in another thread.
        prompt = {"type": "token", "prompt_token_ids": ask.tokens}
        answers: AsyncIterator[Any] = self.client.generate(prompt, params, name)
        return answers

    def constraint(self, ask: rows.Ask) -> Any:
        """What the text has to be, as vLLM has it."""
        if ask.constraint == rows.JSON_OBJECT:
            return self.structured(json_object=True)
        if ask.constraint == rows.JSON_SCHEMA:
            return self.structured(json=ask.schema.decode())
        raise Failure(rows.UNSUPPORTED, f"a constraint of the kind {ask.constraint}")

    def logprobs(self, found: Any, tokens: list[int]) -> list[float]:
        """The sampled tokens' log-probabilities."""
        if found is None:
            return []
        flat: list[float] | None = getattr(found, "logprobs", None)
        if flat is not None and len(flat) == len(tokens):
            return flat
        return [at[token].logprob for at, token in zip(found, tokens, strict=True)]

    def ranked(
        self, found: Any, tokens: list[int], most: int
    ) -> tuple[list[float], list[int], list[float]]:
        """The sampled tokens' log-probabilities; and so many most likely tokens at each place, one place
        after another, with theirs."""
        flat: list[float] | None = getattr(found, "logprobs", None)
        width = most + 1
        if flat is not None and len(flat) == width * len(tokens):
            # A place begins with the sampled token, which may be among the most likely ones once more.
            ids, theirs = list(found.token_ids), list(flat)
            del ids[::width], theirs[::width]
            return flat[::width], ids, theirs
        ids, theirs = [], []
        for at in found or ():
            best = sorted(at.items(), key=lambda it: it[1].logprob, reverse=True)[:most]
            ids += [token for token, _ in best]
            theirs += [it.logprob for _, it in best]
        if len(ids) != most * len(tokens):
            raise Failure(rows.NONSENSE, f"{len(ids)} most likely tokens at {len(tokens)} places")
        return self.logprobs(found, tokens), ids, theirs

    def end(self, ask: rows.Ask, answer: Any, completion: Any) -> rows.Result:
        """The last row of a generation."""
        reason, stop = completion.finish_reason, completion.stop_reason
        # Of all that was sampled; `None` where vLLM does not say.
        spans = getattr(completion, "weight_versions", None)
        result = rows.Result(ask.number, rows.END)
        if reason == "stop" and isinstance(stop, int):
            result.why, result.stop_token = rows.STOP_TOKEN, stop
        elif reason == "stop" and isinstance(stop, str):
            result.why, result.text = rows.STOP_TEXT, cut(stop)
        elif reason == "stop":
            result.why = rows.END_OF_TURN
        elif reason == "error" and ask.constraint != rows.NO_CONSTRAINT and spans == []:
            # That is all that fails for a single request before its first token.
            raise Failure(rows.REFUSED, "no grammar can be made of the constraint; vLLM's log says why")
        elif reason == "error":
            raise Failure(rows.LOST, "vLLM ended the generation with an error")
        elif (why := _FINISHES.get(reason)) is not None:
            result.why = why
        else:
            raise Failure(rows.NONSENSE, f"{reason!r} as the reason for an end")
        if (cached := getattr(answer, "num_cached_tokens", None)) is not None:
            result.cached = min(max(cached, 0), rows.UNKNOWN - 1)
        result.queue_us = waited_us(getattr(answer, "metrics", None))
        spans = spans or ()
        if len(spans) > rows.SPANS_MAX:
            raise Failure(rows.NONSENSE, f"{len(spans)} versions have sampled one generation")
        result.versions = b"".join(
            rows.SPAN.pack(self.version(it.version), it.end - it.start, 0) for it in spans
        )
        return result

    def version(self, name: str) -> int:
        """The number of a version, which vLLM knows by a name."""
        number = self.numbers.get(name)
        if number is None:
            number = int(name) if name.isascii() and name.isdigit() else rows.NO_VERSION
            number = min(number, rows.NO_VERSION)
            if len(self.numbers) > 1000:
                self.numbers = {"default": 0}
            self.numbers[name] = number
        return number

    async def abort(self, names: list[str]) -> None:
        """Ends generations; those that are waited for get what was sampled."""
        await self.client.abort(names)

    async def control(self, kind: int, text: str) -> None:
        """Changes vLLM's state, as its own endpoints do."""
        client = self.client
        if kind == rows.PAUSE:
            if text not in ("keep", "wait", "abort"):
                raise Failure(rows.REFUSED, f"a pause of the kind {text!r}")
            await client.pause_generation(mode=text)
        elif kind == rows.RESUME:
            await client.resume_generation()
        elif kind == rows.LOAD_WEIGHTS:
            await client.collective_rpc("reload_weights", kwargs={"weights_path": text})
            # What is cached was computed with the old weights. Generations that were kept are computed
            # anew from their tokens, so that all that follows is the new weights' own.
            if not await client.reset_prefix_cache(reset_running_requests=True):
                raise Failure(rows.LOST, "the prefix cache of the old weights could not be emptied")
        elif kind == rows.SET_VERSION:
            await client.update_weight_version(text)
        else:
            raise Failure(rows.UNSUPPORTED, f"a row of kind {kind}")

    def load(self) -> bytes:
        """How busy it is, as JSON; ``{}`` where it keeps no statistics (``--disable-log-stats``)."""
        registry = import_module("vllm.v1.metrics.prometheus").get_prometheus_registry()
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR") is None:
            # Only these are collected, which takes a tenth of the time.
            registry = registry.restricted_registry(list(_LOAD))
        sums: dict[str, float] = {}
        engines = 0
        for family in registry.collect():
            for sample in family.samples:
                if (key := _LOAD.get(sample.name)) and math.isfinite(sample.value):
                    sums[key] = sums.get(key, 0.0) + sample.value
                    engines += key == "kv_cache"
        if not engines:
            return b"{}"
        sums["kv_cache"] /= engines
        return json.dumps(
            {key: value if key == "kv_cache" else int(max(value, 0)) for key, value in sums.items()}
        ).encode()


def waited_us(metrics: Any) -> int:
    """How long a request has waited in vLLM's queue. It keeps no such times with ``--disable-log-stats``,
    and a request that was ended before its turn has none."""
    queued, scheduled = (getattr(metrics, it, 0.0) for it in ("queued_ts", "scheduled_ts"))
    return round((scheduled - queued) * 1e6) if 0.0 < queued <= scheduled else rows.NO_TIME


def failure(error: BaseException) -> tuple[int, bytes]:
    """What an exception of vLLM's comes to: why, and the text."""
    if isinstance(error, Failure):
        return error.why, cut(str(error))
    kinds = {it.__name__ for it in type(error).__mro__}
    if "GracefulHTTPError" in kinds:
        why = rows.BUSY
    elif kinds & {"VLLMClientError", "ValueError", "TypeError", "OverflowError"}:
        why = rows.REFUSED
    elif kinds & {"NotImplementedError", "AttributeError"}:
        why = rows.UNSUPPORTED
    else:
        why = rows.LOST
    return why, cut(f"{type(error).__name__}: {error}")


def cut(text: str) -> bytes:
    """A text's first bytes."""
    return text.encode(errors="replace")[: rows.TEXT_MAX].decode(errors="ignore").encode()
