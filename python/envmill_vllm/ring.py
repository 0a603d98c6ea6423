"""Batches of columns over shared memory, as ``docs/ring.md`` lays them out. Standard library only.

The peer runs as the same user and is still not believed: counters, offsets and rows are checked, so
that nonsense in its segment is a :class:`RingError` and nothing else.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
from array import array
from collections.abc import Sequence
from operator import gt
from typing import Any

HEADER_BYTES = 4096
DESCRIPTORS_AT, DESCRIPTOR_BYTES, COLUMNS_MAX = 256, 128, 24
SLOT_HEADER_BYTES, ALIGN = 64, 64
PUBLISHED, RELEASED, STATE = 64, 128, 196
SEGMENT_BYTES_MAX = 1 << 30
FORMATS: dict[str, tuple[int, Any]] = {
    "u8": (1, "B"),
    "u32": (5, "I"),
    "u64": (7, "Q"),
    "f32": (9, "f"),
}

WAITS = 1
"""A side's state while it waits for room: then the other rings when it has released a batch."""

_HEADER = struct.Struct("<8sIIQIIQQI")
_DESCRIPTOR = struct.Struct("<64sBBBx4I4xQQQ16x")
_SLOT = struct.Struct("<QII")
# F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_FUTURE_WRITE.
_SEALS = 0x1 | 0x2 | 0x4 | 0x10
_barriers = (threading.Lock(), threading.Lock())

Columns = Sequence[tuple[str, "str | int"]]
"""Of each column its name, and the type of its elements or the bytes of its arena."""


class RingError(Exception):
    """The other side's segment is not what it should be."""


def fence() -> None:
    """Keeps what was written and read before it before what comes after: releasing one lock and
    acquiring another is a full barrier."""
    for barrier in _barriers:
        with barrier:
            pass


def _aligned(offset: int) -> int:
    return -(-offset // ALIGN) * ALIGN


def _place(columns: Columns, rows: int) -> tuple[list[tuple[int, int]], int]:
    """Where each column's data and arena begin in a slot, and how long a slot is."""
    places, end = [], SLOT_HEADER_BYTES
    for _, kind in columns:
        data = end
        if isinstance(kind, str):
            end = _aligned(data + rows * struct.calcsize(FORMATS[kind][1]))
            places.append((data, 0))
        else:
            arena = _aligned(data + 4 * (rows + 1))
            end = _aligned(arena + kind)
            places.append((data, arena))
    return places, end


def _descriptor(name: str, kind: str | int, data: int, arena: int) -> bytes:
    if isinstance(kind, str):
        return _DESCRIPTOR.pack(name.encode(), FORMATS[kind][0], 1, 0, 0, 0, 0, 0, data, 0, 0)
    return _DESCRIPTOR.pack(name.encode(), FORMATS["u8"][0], 2, 0, 0, 0, 0, 0, data, arena, kind)


class Segment:
    """A mapped segment: its words, and views of the columns of each slot by name. A ragged column's
    views are its offsets, and its arena as bytes."""

    def __init__(self, memory: mmap.mmap, columns: Columns, rows: int, slots: int, at: int, size: int):
        self.view = memoryview(memory)
        self.words = self.view[:HEADER_BYTES].cast("Q")
        self.states = self.view[:HEADER_BYTES].cast("I")
        self.columns, self.rows, self.slots = columns, rows, slots
        places, _ = _place(columns, rows)
        self.heads: list[memoryview] = []
        self.laid_out: list[dict[str, tuple[memoryview, memoryview]]] = []
        for slot in range(slots):
            begin = at + slot * size
            self.heads.append(self.view[begin : begin + SLOT_HEADER_BYTES])
            views = {}
            for (name, kind), (data, arena) in zip(columns, places, strict=True):
                data, arena = begin + data, begin + arena
                if isinstance(kind, str):
                    form = FORMATS[kind][1]
                    cells = self.view[data : data + rows * struct.calcsize(form)].cast(form)
                    views[name] = (cells, self.view[:0])
                else:
                    offsets = self.view[data : data + 4 * (rows + 1)].cast("I")
                    views[name] = (offsets, self.view[arena : arena + kind])
            self.laid_out.append(views)


class Writer(Segment):
    """This side's segment."""

    def __init__(self, columns: Columns, rows: int, slots: int) -> None:
        places, size = _place(columns, rows)
        total = HEADER_BYTES + slots * size
        if total > SEGMENT_BYTES_MAX:
            raise RingError(f"a segment of {total} bytes: there may be {SEGMENT_BYTES_MAX}")
        self.fd = os.memfd_create("envmill-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, total)
            # The writable mapping comes first: behind the seals nobody gets another one.
            memory = mmap.mmap(self.fd, total)
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
        except OSError:
            os.close(self.fd)
            raise
        _HEADER.pack_into(
            memory, 0, b"ENVMRING", 1, 1, total, rows, slots, HEADER_BYTES, size, len(columns)
        )
        for index, ((name, kind), (data, arena)) in enumerate(zip(columns, places, strict=True)):
            begin = DESCRIPTORS_AT + index * DESCRIPTOR_BYTES
            memory[begin : begin + DESCRIPTOR_BYTES] = _descriptor(name, kind, data, arena)
        super().__init__(memory, columns, rows, slots, HEADER_BYTES, size)
        self.published = 0

    def begin(self, reader: Reader) -> dict[str, tuple[memoryview, memoryview]] | None:
        """The views of the next batch's columns; `None` while the peer has released no slot for it.
        Then the peer rings when it has."""
        if self.published >= reader.peer_released(self.published) + self.slots:
            self.states[STATE // 4] = WAITS
            fence()
            if self.published >= reader.peer_released(self.published) + self.slots:
                return None
        self.states[STATE // 4] = 0
        fence()
        return self.laid_out[self.published % self.slots]

    def publish(self, rows: int) -> None:
        """Hands the begun batch to the peer, which is still to be rung."""
        _SLOT.pack_into(self.heads[self.published % self.slots], 0, self.published, rows, 0)
        fence()
        self.published += 1
        self.words[PUBLISHED // 8] = self.published


class Reader(Segment):
    """The peer's segment, which has to have these columns."""

    def __init__(self, fd: int, columns: Columns) -> None:
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            raise RingError("the peer's segment is not sealed")
        total = os.fstat(fd).st_size
        if not HEADER_BYTES <= total <= SEGMENT_BYTES_MAX:
            raise RingError(f"a segment of {total} bytes")
        memory = mmap.mmap(fd, total, prot=mmap.PROT_READ)
        magic, version, kind, size, rows, slots, at, slot, count = _HEADER.unpack_from(memory, 0)
        if (magic, version, kind, size, count) != (b"ENVMRING", 1, 1, total, len(columns)):
            raise RingError(
                f"no segment of columns that is understood here: {magic!r} {version} {kind}"
            )
        # Arenas are as long as the peer says; all else is as this side would lay it out.
        found: list[tuple[str, str | int]] = []
        for index, (name, kind) in enumerate(columns):
            arena_bytes = _DESCRIPTOR.unpack_from(memory, DESCRIPTORS_AT + index * DESCRIPTOR_BYTES)[-1]
            found.append((name, kind if isinstance(kind, str) else arena_bytes))
        if not (1 <= rows <= 1 << 24 and 1 <= slots <= 64):
            raise RingError(f"{rows} rows and {slots} slots")
        places, end = _place(found, rows)
        if at % ALIGN or at < HEADER_BYTES or slot != end or at + slots * slot > total:
            raise RingError("the slots do not lie in the segment")
        for index, ((name, kind), (data, arena)) in enumerate(zip(found, places, strict=True)):
            begin = DESCRIPTORS_AT + index * DESCRIPTOR_BYTES
            if memory[begin : begin + DESCRIPTOR_BYTES] != _descriptor(name, kind, data, arena):
                raise RingError(f"the column {name} is another than expected")
        super().__init__(memory, found, rows, slots, at, slot)
        self.released = 0

    def peer_released(self, published: int) -> int:
        """How many of this side's batches the peer has released."""
        found = self.words[RELEASED // 8]
        if found > published:
            raise RingError(f"{found} batches are released, of {published}")
        fence()
        return found

    def next(self) -> tuple[int, dict[str, tuple[memoryview, memoryview]]] | None:
        """The rows of the next batch, and the views of its columns; `None` if there is none."""
        published = self.words[PUBLISHED // 8]
        if published == self.released:
            return None
        fence()
        slot = self.released % self.slots
        number, rows, beside = _SLOT.unpack_from(self.heads[slot], 0)
        if not 0 < published - self.released <= self.slots or number != self.released:
            raise RingError(f"batch {number} of {published} lies where {self.released} should be")
        if rows > self.rows or beside:
            raise RingError(f"a batch of {rows} rows, with columns {beside:#b} beside it")
        return rows, self.laid_out[slot]

    def release(self, writer: Writer) -> bool:
        """Gives the batch back. True: the peer waits for room, and is to be rung."""
        self.released += 1
        fence()
        writer.words[RELEASED // 8] = self.released
        fence()
        return self.states[STATE // 4] == WAITS


def offsets(cells: memoryview, rows: int, arena: memoryview) -> list[int]:
    """The bounds of the rows of a ragged column, copied and then checked."""
    bounds: list[int] = cells[: rows + 1].tolist()
    if bounds[0] != 0 or bounds[-1] > len(arena) or any(map(gt, bounds, bounds[1:])):
        raise RingError("impossible offsets")
    return bounds


def put_ragged(
    column: tuple[memoryview, memoryview],
    lengths: Sequence[int],
    data: bytes | array[int] | array[float],
) -> None:
    """Writes a ragged column: the bytes of all rows, and how many each has."""
    cells, arena = column
    bounds, end = array("I", [0]), 0
    for length in lengths:
        end += length
        bounds.append(end)
    cells[: len(bounds)] = memoryview(bounds)
    if end:
        arena[:end] = memoryview(data).cast("B")
