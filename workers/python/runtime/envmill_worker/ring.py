"""Batches over shared memory, as docs/ring.md lays them out byte by byte. Standard library only.

A side writes its own segment and maps the other's read-only. What was published is announced by an
event descriptor; the system call that rings it is also what orders the memory accesses.
"""

import fcntl
import mmap
import os
import struct
from array import array
from itertools import accumulate

MAGIC = b"ENVMRING"
VERSION = 1
COLUMNS = 1
HEADER_BYTES = 4096
DESCRIPTORS_AT = 256
DESCRIPTOR_BYTES = 128
COLUMNS_MAX = 24
SLOT_HEADER_BYTES = 64
FIXED, RAGGED = 1, 2

# The codes of element types, and how `struct` and `memoryview` call them.
DTYPES = {
    "u8": (1, "B"), "i8": (2, "b"), "u16": (3, "H"), "i16": (4, "h"), "u32": (5, "I"),
    "i32": (6, "i"), "u64": (7, "Q"), "i64": (8, "q"), "f32": (9, "f"), "f64": (10, "d"),
    "bool": (11, "B"),
}  # fmt: skip
FORMATS = {code: form for code, form in DTYPES.values()}

_HEADER = struct.Struct("<8sIIQIIQQII")
_DESCRIPTOR = struct.Struct("<64sBBBB4IIQQQ16x")
_SLOT = struct.Struct("<QII")
OVERFLOW = struct.Struct("<IIQ")
OVERFLOW_TAG = 0x4F56464C
_ALIGN = 64


class RingError(Exception):
    """The other side's segment is not what it should be."""


def _aligned(size):
    return -(-size // _ALIGN) * _ALIGN


def _elements(shape):
    count = 1
    for extent in shape:
        count *= extent
    return count


class Column:
    """One column: its place in a slot, and how its elements look."""

    def __init__(self, name, kind, dtype, shape, offset, arena_offset=0, arena_bytes=0):
        self.name, self.kind, self.dtype, self.shape = name, kind, dtype, shape
        self.offset, self.arena_offset, self.arena_bytes = offset, arena_offset, arena_bytes

    @property
    def form(self):
        return FORMATS[self.dtype]

    def bytes(self, rows):
        if self.kind == RAGGED:
            return 4 * (rows + 1)
        return rows * _elements(self.shape) * struct.calcsize(self.form)


class _Segment:
    """A mapped segment, with the words of its header."""

    def __init__(self, memory):
        self.memory = memory
        self.view = memoryview(memory)
        self.published = self.view[64:72].cast("Q")
        self.released = self.view[128:136].cast("Q")
        self.state = self.view[196:200].cast("I")

    def slot(self, number):
        begin = self.slots_at + number * self.slot_bytes
        return self.view[begin : begin + self.slot_bytes]

    def lay_out(self, number):
        """The columns of a slot as views, by name; ragged ones as (offsets, arena)."""
        slot, views = self.slot(number), {}
        for column in self.columns:
            data = slot[column.offset : column.offset + column.bytes(self.rows)]
            if column.kind == RAGGED:
                arena = slot[column.arena_offset : column.arena_offset + column.arena_bytes]
                views[column.name] = (data.cast("I"), arena)
            else:
                views[column.name] = data.cast(column.form)
        return slot, views


class Writer(_Segment):
    """This side's segment: batches of at most `rows` rows, in `slots` places.

    `columns` are (name, dtype, shape), or (name, arena_bytes) for ragged bytes.
    """

    def __init__(self, columns, rows, slots=2):
        at, self.columns = SLOT_HEADER_BYTES, []
        for index, spec in enumerate(columns):
            if len(spec) == 3:
                name, dtype, shape = spec
                column = Column(name, FIXED, DTYPES[dtype][0], tuple(shape), at)
                at = _aligned(at + column.bytes(rows))
            else:
                name, arena_bytes = spec
                column = Column(name, RAGGED, DTYPES["u8"][0], (), at)
                column.arena_offset = _aligned(at + column.bytes(rows))
                column.arena_bytes = arena_bytes
                at = _aligned(column.arena_offset + arena_bytes)
            column.index = index
            self.columns.append(column)
        self.rows, self.slots, self.slots_at, self.slot_bytes = rows, slots, HEADER_BYTES, at
        size = HEADER_BYTES + slots * at
        self.fd = os.memfd_create("envmill-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, size)
        super().__init__(mmap.mmap(self.fd, size, mmap.MAP_SHARED))
        _HEADER.pack_into(
            self.memory, 0, MAGIC, VERSION, COLUMNS, size, rows, slots, HEADER_BYTES, at,
            len(self.columns), 0,
        )  # fmt: skip
        for index, column in enumerate(self.columns):
            shape = (*column.shape, 0, 0, 0, 0)[:4]
            _DESCRIPTOR.pack_into(
                self.memory, DESCRIPTORS_AT + DESCRIPTOR_BYTES * index, column.name.encode(),
                column.dtype, column.kind, len(column.shape), 0, *shape, 0, column.offset,
                column.arena_offset, column.arena_bytes,
            )  # fmt: skip
        seal(self.fd, future_write=True)
        self.laid_out = [self.lay_out(number) for number in range(slots)]
        self.next = 0
        # Ragged columns with texts in them, for each place.
        self.filled = [set() for _ in range(slots)]
        self.by_name = {column.name: column for column in self.columns}
        self.no_ends = memoryview(array("I", bytes(4 * (rows + 1))))

    def begin(self, peer_released):
        """The views of the next batch's columns; `None` while the other side has not released its
        place."""
        if self.next >= peer_released + self.slots:
            return None
        return self.laid_out[self.next % self.slots][1]

    def put_ragged(self, column, texts):
        """Writes a ragged column of the begun batch; `None` for one without texts. Where its arena is
        too small, the descriptor of a memory that holds it instead."""
        offsets, arena = self.laid_out[self.next % self.slots][1][column]
        filled = self.filled[self.next % self.slots]
        if texts is None or not any(texts):
            # Often there is no text at all, batch after batch.
            if column in filled:
                filled.discard(column)
                offsets[:] = self.no_ends
            return None
        filled.add(column)
        ends = array("I", accumulate(map(len, texts), initial=0))
        offsets[: len(ends)] = memoryview(ends)
        data = b"".join(texts)
        if len(data) <= len(arena):
            arena[: len(data)] = data
            return None
        fd = os.memfd_create("envmill-ring-overflow", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        seal(fd, future_write=False)
        return fd

    def publish(self, count, overflow_bits=0):
        """Makes the begun batch the other side's; its number."""
        number = self.next
        slot = self.laid_out[number % self.slots][0]
        _SLOT.pack_into(slot, 0, number, count, overflow_bits)
        self.next = number + 1
        self.published[0] = self.next
        return number


class Reader(_Segment):
    """The other side's segment, read only."""

    def __init__(self, fd):
        self.size = os.fstat(fd).st_size
        if self.size < HEADER_BYTES:
            raise RingError(f"a segment of {self.size} bytes has no header")
        super().__init__(mmap.mmap(fd, self.size, mmap.MAP_SHARED, mmap.PROT_READ))
        magic, version, layout, size, self.rows, self.slots, self.slots_at, self.slot_bytes, count, _ = (
            _HEADER.unpack_from(self.memory, 0)
        )
        if magic != MAGIC or version != VERSION or layout != COLUMNS or size != self.size:
            raise RingError(f"not a ring of version {VERSION}: {magic!r}, {version}, {layout}, {size}")
        if count > COLUMNS_MAX or self.slots_at + self.slots * self.slot_bytes > size:
            raise RingError("a segment that is larger inside than outside")
        self.columns = []
        for index in range(count):
            at = DESCRIPTORS_AT + DESCRIPTOR_BYTES * index
            name, dtype, kind, dimensions, _, a, b, c, d, _, offset, arena_offset, arena_bytes = (
                _DESCRIPTOR.unpack_from(self.memory, at)
            )
            column = Column(
                name.rstrip(b"\0").decode(), kind, dtype, (a, b, c, d)[:dimensions], offset,
                arena_offset, arena_bytes,
            )  # fmt: skip
            column.index = index
            self.columns.append(column)
        self.laid_out = [self.lay_out(number) for number in range(self.slots)]
        self.next = 0

    def take(self):
        """(number, count, overflow bits, views) of the next batch, or `None`."""
        number = self.next
        if self.published[0] <= number:
            return None
        slot, views = self.laid_out[number % self.slots]
        sequence, count, overflow = _SLOT.unpack_from(slot, 0)
        if sequence != number or count > self.rows:
            raise RingError(f"batch {number} calls itself {sequence} and has {count} rows")
        self.next = number + 1
        return number, count, overflow, views


def seal(fd, future_write):
    """Nobody changes the size any more, and (`future_write`) nobody else maps it for writing, or
    (otherwise) nobody writes it at all."""
    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    f_seal_future_write = 0x10
    seals |= f_seal_future_write if future_write else fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
