"""Batches of columns over shared memory, as ``docs/ring.md`` lays them out. Standard library only.

Both sides of Envmill that are Python import it: the plug-in for vLLM, which is installed with it, and the
worker processes, which are handed it with their runtime.

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
from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import gt
from typing import Any, TypeAlias

HEADER_BYTES = 4096
DESCRIPTORS_AT, DESCRIPTOR_BYTES, COLUMNS_MAX = 256, 128, 24
SLOT_HEADER_BYTES, ALIGN = 64, 64
PUBLISHED, RELEASED, STATE = 64, 128, 196
SEGMENT_BYTES_MAX = 1 << 30
FIXED, RAGGED = 1, 2

DTYPES: dict[str, tuple[int, Any]] = {
    "u8": (1, "B"), "i8": (2, "b"), "u16": (3, "H"), "i16": (4, "h"), "u32": (5, "I"),
    "i32": (6, "i"), "u64": (7, "Q"), "i64": (8, "q"), "f32": (9, "f"), "f64": (10, "d"),
    "bool": (11, "B"),
}  # fmt: skip
"""The codes of element types, and how ``struct`` and ``memoryview`` call them."""

WAITS = 1
"""A side's state while it waits for room: then the other rings when it has released a batch."""

OVERFLOW = struct.Struct("<IIQ")
"""The message that passes a column which does not fit: the tag, the column's index, the batch."""

OVERFLOW_TAG = 0x4F56464C

Spec: TypeAlias = "tuple[str, str, tuple[int, ...]] | tuple[str, int]"
"""A column: its name, type and the shape of a row; or, of ragged bytes, its name and those of its arena."""

_HEADER = struct.Struct("<8sIIQIIQQI")
_DESCRIPTOR = struct.Struct("<64sBBBx4I4xQQQ16x")
_SLOT = struct.Struct("<QII")
# From <linux/fcntl.h>.
_ADD_SEALS, _GET_SEALS = 1033, 1034
_SEAL, _SHRINK, _GROW, _WRITE, _FUTURE_WRITE = 0x1, 0x2, 0x4, 0x8, 0x10
_SEGMENT_SEALS = _SEAL | _SHRINK | _GROW | _FUTURE_WRITE
_NAMES = {code: name for name, (code, _) in DTYPES.items()}
_barriers = (threading.Lock(), threading.Lock())


class RingError(Exception):
    """The other side's segment is not what it should be."""


def fence() -> None:
    """Keeps what was written and read before it before what comes after: releasing one lock and
    acquiring another is a full barrier."""
    for barrier in _barriers:
        with barrier:
            pass


def _nothing() -> None:
    pass


# Between counters and what they speak of. This machine keeps stores in their order, and loads in theirs.
_in_order = _nothing if os.uname().machine == "x86_64" else fence


def _aligned(offset: int) -> int:
    return -(-offset // ALIGN) * ALIGN


class Column:
    """One column: its place in a slot, and how its elements look."""

    __slots__ = (
        "arena_bytes",
        "arena_offset",
        "dtype",
        "form",
        "index",
        "kind",
        "name",
        "offset",
        "shape",
    )

    def __init__(self, index: int, spec: Spec, rows: int, offset: int) -> None:
        self.index, self.offset, self.name = index, offset, spec[0]
        if len(spec) == 3:
            self.kind, (self.dtype, self.form), self.shape = FIXED, DTYPES[spec[1]], tuple(spec[2])
            self.arena_offset, self.arena_bytes = 0, 0
        else:
            self.kind, (self.dtype, _), self.form, self.shape = RAGGED, DTYPES["u8"], "I", ()
            self.arena_offset, self.arena_bytes = _aligned(offset + self.size(rows)), spec[1]

    def size(self, rows: int) -> int:
        """What its elements take: of a ragged one, its offsets."""
        if self.kind == RAGGED:
            return 4 * (rows + 1)
        count = rows
        for extent in self.shape:
            count *= extent
        return count * struct.calcsize(self.form)

    def end(self, rows: int) -> int:
        """Where the next column begins."""
        if self.kind == RAGGED:
            return _aligned(self.arena_offset + self.arena_bytes)
        return _aligned(self.offset + self.size(rows))

    def descriptor(self) -> bytes:
        """What a segment's header says of it."""
        shape = (*self.shape, 0, 0, 0, 0)[:4]
        return _DESCRIPTOR.pack(
            self.name.encode(), self.dtype, self.kind, len(self.shape), *shape, self.offset,
            self.arena_offset, self.arena_bytes,
        )  # fmt: skip

    def views(self, slot: memoryview, rows: int) -> Any:
        """Its part of a slot."""
        data = slot[self.offset : self.offset + self.size(rows)].cast(self.form)
        if self.kind == FIXED:
            return data
        return data, slot[self.arena_offset : self.arena_offset + self.arena_bytes]


def _placed(specs: Iterable[Spec], rows: int) -> tuple[list[Column], int]:
    """The columns, each at its place in a slot, and how long a slot is."""
    columns, end = [], SLOT_HEADER_BYTES
    for index, spec in enumerate(specs):
        columns.append(Column(index, spec, rows, end))
        end = columns[-1].end(rows)
    return columns, end


class Segment:
    """A mapped segment: its words, and of each slot the views of its columns by name. A fixed column's is
    flat; a ragged one's are its offsets, and its arena as bytes."""

    def __init__(
        self, memory: mmap.mmap, columns: list[Column], rows: int, slots: int, at: int, size: int
    ) -> None:
        self.view = memoryview(memory)
        self.published = self.view[PUBLISHED : PUBLISHED + 8].cast("Q")
        self.released = self.view[RELEASED : RELEASED + 8].cast("Q")
        self.state = self.view[STATE : STATE + 4].cast("I")
        self.columns, self.rows, self.slots = columns, rows, slots
        self.by_name = {column.name: column for column in columns}
        places = [self.view[begin : begin + size] for begin in range(at, at + slots * size, size)]
        self.heads = [place[:SLOT_HEADER_BYTES] for place in places]
        self.laid_out: list[dict[str, Any]] = [
            {column.name: column.views(place, rows) for column in columns} for place in places
        ]


class Writer(Segment):
    """This side's segment: batches of at most `rows` rows, in `slots` places."""

    def __init__(self, specs: Sequence[Spec], rows: int, slots: int = 2) -> None:
        columns, size = _placed(specs, rows)
        total = HEADER_BYTES + slots * size
        if total > SEGMENT_BYTES_MAX:
            raise RingError(f"a segment of {total} bytes: there may be {SEGMENT_BYTES_MAX}")
        self.fd = os.memfd_create("envmill-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, total)
            # The writable mapping comes first: behind the seals nobody gets another one.
            memory = mmap.mmap(self.fd, total)
            fcntl.fcntl(self.fd, _ADD_SEALS, _SEGMENT_SEALS)
        except OSError:
            os.close(self.fd)
            raise
        _HEADER.pack_into(
            memory, 0, b"ENVMRING", 1, 1, total, rows, slots, HEADER_BYTES, size, len(columns)
        )
        for column in columns:
            begin = DESCRIPTORS_AT + column.index * DESCRIPTOR_BYTES
            memory[begin : begin + DESCRIPTOR_BYTES] = column.descriptor()
        super().__init__(memory, columns, rows, slots, HEADER_BYTES, size)
        self.next = 0
        # Ragged columns with texts in them, for each slot.
        self.filled: list[set[str]] = [set() for _ in range(slots)]
        self.no_ends = memoryview(array("I", bytes(4 * (rows + 1))))

    def begin(self, reader: Reader) -> dict[str, Any] | None:
        """The views of the next batch's columns; `None` while the peer has released no slot for it."""
        if self.next >= reader.peer_released(self.next) + self.slots:
            return None
        return self.laid_out[self.next % self.slots]

    def begin_or_wait(self, reader: Reader) -> dict[str, Any] | None:
        """The same. Where there is no room, the peer rings when there is."""
        views = self.begin(reader)
        if views is None:
            self.state[0] = WAITS
            fence()
            views = self.begin(reader)
        if views is not None and self.state[0]:
            self.state[0] = 0
            fence()
        return views

    def put_texts(self, name: str, texts: Sequence[bytes] | None) -> int | None:
        """Writes a ragged column of the begun batch; `None` for one without texts. Where its arena is
        too small, the descriptor of a memory that holds it instead."""
        slot = self.next % self.slots
        column, filled = self.laid_out[slot][name], self.filled[slot]
        if texts is None or not any(texts):
            # Often there is no text at all, batch after batch.
            if name in filled:
                filled.discard(name)
                column[0][:] = self.no_ends
            return None
        filled.add(name)
        data = b"".join(texts)
        return None if put_ragged(column, map(len, texts), data) else _beside(data)

    def publish(self, rows: int, beside: int = 0) -> None:
        """Hands the begun batch to the peer, which is still to be rung. Bits of `beside` are columns that
        do not fit."""
        _SLOT.pack_into(self.heads[self.next % self.slots], 0, self.next, rows, beside)
        _in_order()
        self.next += 1
        self.published[0] = self.next


class Reader(Segment):
    """The peer's segment, read only. With `specs`, it has to have these columns; arenas are as long as
    the peer says."""

    def __init__(self, fd: int, specs: Sequence[Spec] | None = None) -> None:
        if fcntl.fcntl(fd, _GET_SEALS) & _SEGMENT_SEALS != _SEGMENT_SEALS:
            raise RingError("the peer's segment is not sealed")
        total = os.fstat(fd).st_size
        if not HEADER_BYTES <= total <= SEGMENT_BYTES_MAX:
            raise RingError(f"a segment of {total} bytes")
        memory = mmap.mmap(fd, total, prot=mmap.PROT_READ)
        magic, version, kind, size, rows, slots, at, slot, count = _HEADER.unpack_from(memory, 0)
        if (magic, version, kind, size) != (b"ENVMRING", 1, 1, total) or count > COLUMNS_MAX:
            raise RingError(
                f"no segment of columns that is understood here: {magic!r} {version} {kind} {count}"
            )
        if not (1 <= rows <= 1 << 24 and 1 <= slots <= 64):
            raise RingError(f"{rows} rows and {slots} slots")
        said = [memory[begin : begin + DESCRIPTOR_BYTES] for begin in _descriptors(count)]
        found = [_spec(descriptor) for descriptor in said]
        if specs is not None and [_kind(it) for it in found] != [_kind(it) for it in specs]:
            raise RingError(f"other columns than expected: {found}")
        # All else has to be as this side would lay it out.
        columns, end = _placed(found, rows)
        if [column.descriptor() for column in columns] != said:
            raise RingError("the columns are laid out otherwise than expected")
        if at % ALIGN or at < HEADER_BYTES or slot != end or at + slots * slot > total:
            raise RingError("the slots do not lie in the segment")
        super().__init__(memory, columns, rows, slots, at, slot)
        self.taken = 0

    def peer_released(self, published: int) -> int:
        """How many of this side's batches the peer has released."""
        found: int = self.released[0]
        if found > published:
            raise RingError(f"{found} batches are released, of {published}")
        _in_order()
        return found

    def next(self) -> tuple[int, int, int, dict[str, Any]] | None:
        """The next batch: its number, its rows, a bit for each column that lies beside it, and the views of
        its columns. `None` if there is none. It is the next until it was released."""
        number = self.taken
        published = self.published[0]
        if published == number:
            return None
        _in_order()
        slot = number % self.slots
        said, rows, beside = _SLOT.unpack_from(self.heads[slot], 0)
        if not 0 < published - number <= self.slots or said != number:
            raise RingError(f"batch {said} of {published} lies where {number} should be")
        if rows > self.rows:
            raise RingError(f"a batch of {rows} rows, where {self.rows} are the most")
        return number, rows, beside, self.laid_out[slot]

    def release(self, writer: Writer) -> None:
        """Gives the batch back."""
        self.taken += 1
        _in_order()
        writer.released[0] = self.taken

    def peer_waits(self) -> bool:
        """Whether the peer waits for room, and is to be rung after a release."""
        fence()
        waits: bool = self.state[0] == WAITS
        return waits


def _descriptors(count: int) -> range:
    return range(DESCRIPTORS_AT, DESCRIPTORS_AT + count * DESCRIPTOR_BYTES, DESCRIPTOR_BYTES)


def _spec(descriptor: bytes) -> Spec:
    """The column that a descriptor speaks of."""
    name, dtype, kind, dimensions, *shape, _, _, arena_bytes = _DESCRIPTOR.unpack(descriptor)
    try:
        text = name.rstrip(b"\0").decode()
        if kind == RAGGED:
            return text, arena_bytes
        return text, _NAMES[dtype], tuple(shape[:dimensions])
    except (KeyError, UnicodeDecodeError) as error:
        raise RingError(f"a column that is not understood here: {descriptor!r}") from error


def _kind(spec: Spec) -> Any:
    """What two sides have to agree on."""
    return (spec[0], spec[1], tuple(spec[2])) if len(spec) == 3 else spec[0]


def _beside(data: bytes) -> int:
    """A sealed memory with these bytes."""
    fd = os.memfd_create("envmill-ring-overflow", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    fcntl.fcntl(fd, _ADD_SEALS, _SEAL | _SHRINK | _GROW | _WRITE)
    return fd


def offsets(cells: memoryview, rows: int, arena: memoryview) -> list[int]:
    """The bounds of the rows of a ragged column, copied and then checked."""
    bounds: list[int] = cells[: rows + 1].tolist()
    if bounds[0] != 0 or bounds[-1] > len(arena) or any(map(gt, bounds, bounds[1:])):
        raise RingError("impossible offsets")
    return bounds


def put_ragged(
    column: tuple[memoryview, memoryview],
    lengths: Iterable[int],
    data: bytes | array[int] | array[float],
) -> bool:
    """Writes a ragged column: how many bytes each row has, and those of all. False: they do not fit into
    its arena, and belong beside the batch."""
    cells, arena = column
    bounds = array("I", accumulate(lengths, initial=0))
    cells[: len(bounds)] = memoryview(bounds)
    end = bounds[-1]
    if end > len(arena):
        return False
    if end:
        arena[:end] = memoryview(data).cast("B")
    return True
