"""What the rows are: the table of it is in ``docs/inference.md``, section "Shared memory"."""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from envmill_ring import DTYPES, RingError, Spec, Writer, offsets, put_ragged

VERSION = 3

# Kinds of what an engine asks for.
GENERATE, ABORT, FORGET, PAUSE, RESUME, LOAD_WEIGHTS, SET_VERSION, LOAD = range(1, 9)

# Flags of a generation.
STREAMED, LOGPROBS, IGNORE_EOS, SEEDED = 1, 2, 4, 8

# What a generation's text has to be.
NO_CONSTRAINT, JSON_OBJECT, JSON_SCHEMA = range(3)

# Kinds of what is answered.
PART, END, FAILED, DONE, BUSY_IS = range(1, 6)

# Why a generation has ended.
END_OF_TURN, STOP_TOKEN, STOP_TEXT, LENGTH, ABORTED = range(1, 6)

# Why something has failed.
REFUSED, BUSY, LOST, NONSENSE, UNSUPPORTED = range(1, 6)

UNKNOWN = 0xFFFF_FFFF
"""Nobody knows how many tokens were cached."""

NO_TIME = 0xFFFF_FFFF_FFFF_FFFF
"""Nobody knows how long the request has waited."""

NO_VERSION = 0xFFFF_FFFF_FFFF_FFFF
"""The engine calls the version by a name that is no number."""

TOP_MAX = 20
"""So many most likely tokens are told of a place."""

TEXT_MAX = 2000
"""So many bytes of an error's text are told."""

REQUESTS: tuple[Spec, ...] = (
    ("number", "u64", ()),
    ("kind", "u8", ()),
    ("flags", "u8", ()),
    ("max_tokens", "u32", ()),
    ("min_tokens", "u32", ()),
    ("top_k", "u32", ()),
    ("temperature", "f32", ()),
    ("top_p", "f32", ()),
    ("min_p", "f32", ()),
    ("seed", "u64", ()),
    ("top_logprobs", "u32", ()),
    ("constraint", "u8", ()),
    ("tokens", 0),
    ("stop_tokens", 0),
    ("text", 0),
    ("schema", 0),
)
"""The engine's segment. Its arenas are as long as it likes."""

RESULTS: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("number", "u64", ()),
    ("kind", "u8", ()),
    ("why", "u8", ()),
    ("stop_token", "u32", ()),
    ("cached", "u32", ()),
    ("queue_us", "u64", ()),
)
"""What a row of results has of numbers; :func:`results` has all of it."""

SPAN = struct.Struct("<QII")
"""A version, how many tokens it has sampled, and zeros."""

SPANS_MAX = 4 * TEXT_MAX // SPAN.size
"""So many versions of one generation are told: they fit into every batch."""


@dataclass(slots=True)
class Hello:
    """What an engine wants of this side's segment."""

    rows: int
    slots: int
    tokens_bytes: int
    text_bytes: int


def read_hello(message: bytes) -> Hello:
    """Reads the first message of an engine."""
    try:
        said = json.loads(message)
        if said["version"] != VERSION:
            raise RingError(f"it speaks version {said['version']}, and {VERSION} is understood here")
        numbers = [int(said[it]) for it in ("rows", "slots", "tokens_bytes", "text_bytes")]
    except (ValueError, KeyError, TypeError) as error:
        raise RingError(f"its first message is no greeting ({error!r})") from error
    rows, slots, tokens_bytes, text_bytes = numbers
    # The least: a token, and an error's text beside the spans of a few versions.
    if not (1 <= rows <= 1 << 16 and 1 <= slots <= 64 and 64 <= tokens_bytes < 1 << 32):
        raise RingError(f"{rows} rows, {slots} slots and {tokens_bytes} bytes of tokens")
    if not 4 * TEXT_MAX <= text_bytes < 1 << 32:
        raise RingError(f"{text_bytes} bytes of texts")
    return Hello(rows, slots, tokens_bytes // 4 * 4, text_bytes)


def results(hello: Hello) -> tuple[Spec, ...]:
    """The columns of this side's segment."""
    return (
        *RESULTS,
        ("tokens", hello.tokens_bytes),
        ("logprobs", hello.tokens_bytes),
        ("versions", hello.text_bytes),
        ("text", hello.text_bytes),
        # As many of the most likely tokens as there may be, at each of the batch's tokens.
        ("top_tokens", TOP_MAX * hello.tokens_bytes),
        ("top_logprobs", TOP_MAX * hello.tokens_bytes),
    )


@dataclass(slots=True)
class Ask:
    """A row of an engine's. Numbers are as they came."""

    number: int
    kind: int
    flags: int = 0
    max_tokens: int = 1
    min_tokens: int = 0
    top_k: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    top_logprobs: int = 0
    constraint: int = NO_CONSTRAINT
    tokens: list[int] | None = None
    stop_tokens: list[int] | None = None
    text: bytes = b""
    schema: bytes = b""


def read(batch: tuple[int, int, int, dict[str, Any]]) -> Iterator[Ask]:
    """The rows of a batch of requests, copied out of it."""
    _, count, beside, views = batch
    if beside:
        raise RingError(f"a batch with columns {beside:#b} beside it")
    scalars = [views[spec[0]][:count].tolist() for spec in REQUESTS if len(spec) == 3]
    ragged = [spec[0] for spec in REQUESTS if len(spec) == 2]
    bounds = {it: offsets(views[it][0], count, views[it][1]) for it in ragged}
    if any(it % 4 for name in ("tokens", "stop_tokens") for it in bounds[name]):
        raise RingError("half a token")
    tokens, stops, texts, schemas = (views[name][1] for name in ragged)
    ends, stop_ends, text_ends, schema_ends = (bounds[name] for name in ragged)
    heads: Iterator[tuple[Any, ...]] = zip(*scalars, strict=True)
    for row, values in enumerate(heads):
        # The one copy of a prompt on its way into vLLM, which wants lists.
        prompt = tokens[ends[row] : ends[row + 1]].cast("I").tolist()
        stop = stops[stop_ends[row] : stop_ends[row + 1]].cast("I").tolist()
        text = bytes(texts[text_ends[row] : text_ends[row + 1]])
        schema = bytes(schemas[schema_ends[row] : schema_ends[row + 1]])
        fields: tuple[Any, ...] = (*values, prompt, stop, text, schema)
        yield Ask(*fields)


def strings(data: bytes) -> list[str]:
    """The strings that end a generation: each behind its length."""
    found, at = [], 0
    while at < len(data):
        if at + 4 > len(data):
            raise ValueError("a cut string")
        (length,) = struct.unpack_from("<I", data, at)
        at += 4 + length
        if at > len(data):
            raise ValueError("a cut string")
        found.append(data[at - length : at].decode())
    return found


@dataclass(slots=True)
class Result:
    """A row that answers."""

    number: int
    kind: int
    why: int = 0
    stop_token: int = 0
    cached: int = UNKNOWN
    queue_us: int = NO_TIME
    versions: bytes = b""
    text: bytes = b""


class Batch:
    """Rows that are gathered for a batch of results, as long as they fit."""

    def __init__(self, rows: int, hello: Hello) -> None:
        self.rows, self.hello = rows, hello
        self.heads: list[Result] = []
        self.tokens, self.logprobs = array("I"), array("f")
        self.lengths: list[int] = []
        self.logprob_lengths: list[int] = []
        # Of rows that have some: the most likely tokens at their places, and their log-probabilities.
        self.top: dict[int, tuple[bytes, bytes]] = {}
        self.version_bytes = self.text_bytes = 0

    def room(self) -> int:
        """How many tokens still fit; 0 if no row does."""
        return 0 if len(self.heads) == self.rows else self.hello.tokens_bytes // 4 - len(self.tokens)

    def fits(self, result: Result) -> bool:
        """Whether the row fits, besides its tokens."""
        text_bytes = self.hello.text_bytes
        return (
            len(self.heads) < self.rows
            and self.version_bytes + len(result.versions) <= text_bytes
            and self.text_bytes + len(result.text) <= text_bytes
        )

    def add(self, result: Result, tokens: list[int], logprobs: list[float]) -> None:
        """Adds a row."""
        self.heads.append(result)
        self.tokens.extend(tokens)
        self.logprobs.extend(logprobs)
        self.lengths.append(4 * len(tokens))
        self.logprob_lengths.append(4 * len(logprobs))
        self.version_bytes += len(result.versions)
        self.text_bytes += len(result.text)

    def add_top(self, tokens: bytes, logprobs: bytes) -> None:
        """Adds the most likely tokens at the places of the row that was added last. They have room
        where its tokens have."""
        self.top[len(self.heads) - 1] = tokens, logprobs

    def write(self, writer: Writer, views: dict[str, Any]) -> None:
        """Writes the rows to the slot that the writer has begun."""
        heads, count = self.heads, len(self.heads)
        for name, dtype, _ in RESULTS:
            form = DTYPES[dtype][1]
            views[name][:count] = memoryview(array(form, [getattr(it, name) for it in heads]))
        put_ragged(views["tokens"], self.lengths, self.tokens)
        put_ragged(views["logprobs"], self.logprob_lengths, self.logprobs)
        # What is counted fits, so that nothing of it comes to lie beside the batch.
        writer.put_texts("versions", [it.versions for it in heads])
        writer.put_texts("text", [it.text for it in heads])
        top = [self.top.get(row, (b"", b"")) for row in range(count)] if self.top else []
        writer.put_texts("top_tokens", [it[0] for it in top])
        writer.put_texts("top_logprobs", [it[1] for it in top])
