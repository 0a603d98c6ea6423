"""One side of a ring, with nothing but the standard library (Python 3.10 or newer, 64-bit Linux).

The format is described byte by byte in docs/ring.md. Run as a program this is a peer that answers each
batch with one of its own: standard input is a Unix socket (SOCK_SEQPACKET), on which the engine first
sends ``HELLO`` with three descriptors: its segment, the doorbell that it rings, and the doorbell that
is rung for it. The answer is ``HELLO`` with this side's segment. The socket's end is the end.
"""

import fcntl
import mmap
import os
import platform
import selectors
import socket
import struct
import threading

MAGIC = b"ENVMRING"
VERSION = 1
COLUMNS = 1
HEADER_BYTES = 4096
ALIGN = 64
PUBLISHED = 64
RELEASED = 128
DESCRIPTORS = 256
SLOT_HEADER_BYTES = 64
FIXED, RAGGED = 1, 2
OVERFLOW_TAG = 0x4F56464C

# From <linux/fcntl.h>; Python knows them from 3.13 on.
F_ADD_SEALS = 1033
F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE, F_SEAL_FUTURE_WRITE = 1, 2, 4, 8, 16

# Codes of types, and what memoryview and struct call them. Native formats store an aligned element
# in one piece, which those that begin with "<" do not promise.
FORMATS = {1: "B", 2: "b", 3: "H", 4: "h", 5: "I", 6: "i", 7: "Q", 8: "q", 9: "f", 10: "d", 11: "B"}
U8, U64 = 1, 7

# One column's descriptor: name, type, kind, dimensions, shape, data offset, arena offset and bytes.
DESCRIPTOR = struct.Struct("<64s B B B x 4I 4x Q Q Q 16x")
# Magic, version, kind, total bytes, rows, slots, offset of the slots, bytes of a slot, columns.
HEADER = struct.Struct("<8s I I Q I I Q Q I")


_barriers = () if platform.machine() == "x86_64" else (threading.Lock(), threading.Lock())


def fence():
    """Keeps what was written and read before it before what comes after.

    x86-64 does that by itself with all loads and all stores. Elsewhere, releasing one lock and
    acquiring another are the barrier.
    """
    for barrier in _barriers:
        with barrier:
            pass


def aligned(offset):
    """The next multiple of a cache line."""
    return -(-offset // ALIGN) * ALIGN


class Column:
    """A column at its place in a slot."""

    def __init__(self, name, dtype, kind=FIXED, shape=(), arena_bytes=0):
        self.name = name
        self.dtype = dtype
        self.kind = kind
        self.shape = tuple(shape)
        self.arena_bytes = arena_bytes
        self.data_offset = 0
        self.arena_offset = 0
        self.format = FORMATS[dtype]
        self.item_bytes = struct.calcsize(self.format)
        self.row_elements = 1
        for length in self.shape:
            self.row_elements *= length

    @classmethod
    def unpack(cls, header, at):
        """Reads a descriptor."""
        name, dtype, kind, dimensions, *rest = DESCRIPTOR.unpack_from(header, at)
        shape, (data_offset, arena_offset, arena_bytes) = rest[:dimensions], rest[4:]
        column = cls(name.rstrip(b"\0").decode(), dtype, kind, shape, arena_bytes)
        column.data_offset, column.arena_offset = data_offset, arena_offset
        return column

    def pack(self, header, at):
        """Writes its descriptor."""
        shape = self.shape + (0,) * (4 - len(self.shape))
        DESCRIPTOR.pack_into(
            header, at, self.name.encode(), self.dtype, self.kind, len(self.shape), *shape,
            self.data_offset, self.arena_offset, self.arena_bytes,
        )

    def place(self, offset, rows):
        """Takes its place at an offset of a slot, and says where the next column's is."""
        self.data_offset = offset
        if self.kind == FIXED:
            return aligned(offset + rows * self.row_elements * self.item_bytes)
        self.arena_offset = aligned(offset + (rows + 1) * 4)
        return aligned(self.arena_offset + self.arena_bytes)


class Writer:
    """This side's segment, in which it publishes batches and acknowledges the peer's."""

    def __init__(self, rows, slots, columns):
        self.rows, self.slots, self.columns = rows, slots, columns
        self.published = 0
        end = SLOT_HEADER_BYTES
        for column in columns:
            end = column.place(end, rows)
        self.slot_bytes = end
        total = HEADER_BYTES + slots * end
        self.fd = os.memfd_create("envmill-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, total)
        # The writable mapping comes first: behind the seals nobody gets another one.
        self.memory = memoryview(mmap.mmap(self.fd, total))
        seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL
        fcntl.fcntl(self.fd, F_ADD_SEALS, seals)
        HEADER.pack_into(
            self.memory, 0, MAGIC, VERSION, COLUMNS, total, rows, slots, HEADER_BYTES, end,
            len(columns),
        )
        for index, column in enumerate(columns):
            column.pack(self.memory, DESCRIPTORS + 128 * index)
        # The counters as words of 8 bytes: stored in one piece.
        self.words = self.memory.cast("Q")

    def has_room(self, reader):
        """Whether a slot is free for the next batch, as far as the peer has released them."""
        return self.published < reader.words[RELEASED // 8] + self.slots

    def publish(self, rows, values):
        """Publishes a batch: for each column a list of numbers, or of bytes objects if ragged.

        Call it only when there is room. Returns the batch's number, and a descriptor for each column
        that did not fit: send them, then ring.
        """
        sequence = self.published
        slot = HEADER_BYTES + sequence % self.slots * self.slot_bytes
        overflow = []
        for index, (column, column_values) in enumerate(zip(self.columns, values)):
            data = slot + column.data_offset
            if column.kind == FIXED:
                count = rows * column.row_elements
                struct.pack_into(f"={count}{column.format}", self.memory, data, *column_values)
                continue
            joined = b"".join(column_values)
            offsets, end = [0], 0
            for value in column_values:
                end += len(value)
                offsets.append(end)
            struct.pack_into(f"={rows + 1}I", self.memory, data, *offsets)
            if len(joined) <= column.arena_bytes:
                arena = slot + column.arena_offset
                self.memory[arena:arena + len(joined)] = joined
            else:
                overflow.append((index, sealed(joined)))
        bits = sum(1 << index for index, _ in overflow)
        struct.pack_into("=QII", self.memory, slot, sequence, rows, bits)
        fence()
        self.published = sequence + 1
        self.words[PUBLISHED // 8] = self.published
        return sequence, overflow

    def release(self, batches):
        """Acknowledges that this many batches of the peer have been read, in all."""
        fence()
        self.words[RELEASED // 8] = batches


def sealed(data):
    """A memfd with exactly these bytes, which nobody can change any more."""
    fd = os.memfd_create("envmill-ring-overflow", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    written = 0
    while written < len(data):
        written += os.pwrite(fd, memoryview(data)[written:], written)
    fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)
    return fd


def read_all(fd):
    """All bytes of a memfd, which is closed. Its file position is shared with the peer: no matter."""
    try:
        pieces, read, size = [], 0, os.fstat(fd).st_size
        while read < size:
            pieces.append(os.pread(fd, size - read, read))
            read += len(pieces[-1])
        return b"".join(pieces)
    finally:
        os.close(fd)


class Reader:
    """The peer's segment, read-only. The peer started this process and is trusted."""

    def __init__(self, fd):
        self.memory = memoryview(mmap.mmap(fd, os.fstat(fd).st_size, prot=mmap.PROT_READ))
        self.words = self.memory.cast("Q")
        magic, version, kind, _, self.rows, self.slots, self.offset, self.slot_bytes, columns = (
            HEADER.unpack_from(self.memory, 0)
        )
        if (magic, version, kind) != (MAGIC, VERSION, COLUMNS):
            raise ValueError("this is no segment of columns that is understood here")
        self.columns = [
            Column.unpack(self.memory, DESCRIPTORS + 128 * index) for index in range(columns)
        ]
        self.released = 0
        # Descriptors of columns that did not fit, by batch and column.
        self.overflow = {}

    def next(self):
        """The next batch: the number of its rows, and each column's values.

        None if there is none, or not all of it has come yet. Call ``release`` when it has been read.
        """
        if self.words[PUBLISHED // 8] == self.released:
            return None
        fence()
        slot = self.offset + self.released % self.slots * self.slot_bytes
        sequence, rows, bits = struct.unpack_from("=QII", self.memory, slot)
        beside = [index for index in range(len(self.columns)) if bits >> index & 1]
        if any((sequence, index) not in self.overflow for index in beside):
            return None
        values = []
        for index, column in enumerate(self.columns):
            data = slot + column.data_offset
            if column.kind == FIXED:
                end = data + rows * column.row_elements * column.item_bytes
                values.append(self.memory[data:end].cast(column.format).tolist())
                continue
            offsets = self.memory[data:data + (rows + 1) * 4].cast("I").tolist()
            if index in beside:
                joined = read_all(self.overflow.pop((sequence, index)))
            else:
                arena = slot + column.arena_offset
                joined = bytes(self.memory[arena:arena + offsets[-1]])
            values.append([joined[begin:end] for begin, end in zip(offsets, offsets[1:])])
        return rows, values

    def release(self, writer):
        """Gives the slot that was read last back to the peer."""
        self.released += 1
        writer.release(self.released)


class Peer:
    """Both segments, the doorbells, and the socket to the engine."""

    def __init__(self, channel, columns, rows, slots):
        self.channel = channel
        message, descriptors = receive(channel)
        if message != b"HELLO" or len(descriptors) != 3:
            raise ValueError("the engine says something else than HELLO")
        segment, self.my_bell, self.engine_bell = descriptors
        self.reader = Reader(segment)
        os.close(segment)
        self.writer = Writer(rows, slots, columns)
        socket.send_fds(channel, [b"HELLO"], [self.writer.fd])
        os.close(self.writer.fd)
        channel.setblocking(False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(channel, selectors.EVENT_READ)
        self.selector.register(self.my_bell, selectors.EVENT_READ)

    def wait(self):
        """Waits until the engine rings or sends something. False when the engine has gone."""
        ready = {key.fileobj for key, _ in self.selector.select()}
        if self.my_bell in ready:
            # Before the counters are looked at: what comes later rings again.
            os.eventfd_read(self.my_bell)
        # What lies beside a batch has been sent before the ring for it.
        while True:
            try:
                message, descriptors = receive(self.channel)
            except BlockingIOError:
                return True
            except ConnectionResetError:
                return False
            if not message:
                return False
            tag, column, sequence = struct.unpack("<IIQ", message)
            if tag == OVERFLOW_TAG:
                (self.reader.overflow[sequence, column],) = descriptors

    def publish(self, rows, values):
        """Publishes a batch, with what did not fit, and rings. Waits for room if there is none.

        False when the engine has gone.
        """
        while not self.writer.has_room(self.reader):
            if not self.wait():
                return False
        sequence, overflow = self.writer.publish(rows, values)
        for column, fd in overflow:
            message = struct.pack("<IIQ", OVERFLOW_TAG, column, sequence)
            self.channel.setblocking(True)
            socket.send_fds(self.channel, [message], [fd])
            self.channel.setblocking(False)
            os.close(fd)
        os.eventfd_write(self.engine_bell, 1)
        return True


def receive(channel):
    """The next message, and its descriptors; an empty one at the end."""
    message, descriptors, _, _ = socket.recv_fds(channel, 65536, 16, socket.MSG_CMSG_CLOEXEC)
    return message, descriptors


def step_columns():
    """The columns of the batches that this peer answers with."""
    return [
        Column("id", U64),
        Column("kind", U8),
        Column("pose", 9, shape=(3,)),
        Column("text", U8, RAGGED, arena_bytes=64),
    ]


def main():
    """Answers each batch: ids plus 1, kinds as they are, poses negated, texts in upper case."""
    peer = Peer(socket.socket(fileno=0), step_columns(), rows=4, slots=2)
    while peer.wait():
        while (batch := peer.reader.next()) is not None:
            rows, (ids, kinds, poses, texts) = batch
            peer.reader.release(peer.writer)
            answer = (
                [number + 1 for number in ids],
                kinds,
                [-number for number in poses],
                [text.upper() for text in texts],
            )
            if not peer.publish(rows, answer):
                return


if __name__ == "__main__":
    main()
