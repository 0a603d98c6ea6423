"""Reads a trajectory's image in place: docs/trajectory-layout.md in Python, with numpy.

``Image(buffer)`` takes anything with the buffer protocol, such as a slice of a mapped ring. Its arrays are
views: nothing is copied, and where the buffer is read-only, so are they.
"""

import math
import struct

import numpy

MAGIC, VERSION, ALIGN = b"ENVMTRAJ", 1, 64
HEADER = struct.Struct("<8sIIQQQ")
ENTRY = struct.Struct("<IIQQIIIII")


class Image:
    """An image: ``arrays`` by name, and ``rest``, the encoded ``Trajectory`` without them."""

    def __init__(self, buffer):
        memory = memoryview(buffer).cast("B")
        magic, version, entries, length, rest, rest_bytes = HEADER.unpack_from(memory, 0)
        if (magic, version) != (MAGIC, VERSION):
            raise ValueError("this is no image that is understood here")
        memory = memory[:length]
        self.rest = memory[rest:rest + rest_bytes]
        self.arrays = {}
        for index in range(entries):
            at = 64 + 128 * index
            tag, dimensions, data, size, *texts, blob = ENTRY.unpack_from(memory, at)
            shape = struct.unpack_from(f"<{dimensions}Q", memory, at + 64)
            name, dtype = (
                bytes(memory[start:start + length]).decode()
                for start, length in (texts[:2], texts[2:])
            )
            if data % ALIGN or data + size > length:
                raise ValueError("an array does not lie where it may")
            # Types that numpy has not (bfloat16) stay bytes.
            try:
                element = numpy.dtype(dtype)
            except TypeError:
                element, shape = numpy.dtype("uint8"), (size,)
            view = numpy.frombuffer(memory, element, math.prod(shape), data).reshape(shape)
            self.arrays[name if tag < 16 else (blob, name)] = view
