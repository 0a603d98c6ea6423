"""A trainer on the engine's host, with grpcio, numpy and the standard library.

    python ring_trainer.py ADDRESS JOB_ID TRAJECTORIES RING_BYTES

Attaches to a job, takes so many trajectories, sums every array of each, and prints one JSON object: the sums,
how many came through shared memory, how many of the arrays could be written to, and what it took in seconds
and CPU seconds from the first record to the last sum. With 0 for RING_BYTES it asks for no memory, and sums what
it decodes. For the job `-` it waits for a line that says which. docs/service.md and docs/trajectory-layout.md
are all that it knows of Envmill.
"""

import fcntl
import json
import mmap
import os
import pathlib
import queue
import secrets
import socket
import struct
import sys
import time

import grpc
import numpy

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "examples" / "python"))

from plain_grpcio import stubs
from ring_sums import total
from trajectory_image import Image

F_ADD_SEALS, SEALS = 1033, 0x1 | 0x2 | 0x4 | 0x10  # SEAL, SHRINK, GROW, FUTURE_WRITE
PAGE, PUBLISHED, PADDING, IMAGE = 4096, 64, 1, 48


class Ring:
    """The engine's log, read-only, and the segment in which its records are given back."""

    def __init__(self, path, token):
        self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.connect(path)
        self.channel.send(b"ENVMMEM1" + token)
        welcome, (log, self.bell), _, _ = socket.recv_fds(self.channel, 64, 2)
        magic, self.position, self.sequence = struct.unpack("<8sQQ", welcome)
        assert magic == b"ENVMLOG1", welcome
        self.memory = memoryview(mmap.mmap(log, os.fstat(log).st_size, prot=mmap.PROT_READ))
        os.close(log)
        magic, version, kind, _, self.window, _, self.offset, self.ring_bytes = (
            struct.unpack_from("<8sIIQIIQQ", self.memory)
        )
        assert (magic, version, kind) == (b"ENVMRING", 1, 2)
        releases = self.releases()
        socket.send_fds(self.channel, [b"ENVMBACK"], [releases])
        os.close(releases)
        assert self.channel.recv(64) == b"ENVMGOOD"

    def releases(self):
        """Makes the segment of kind 3: a header and a cell for each record of the window."""
        cells = (8 * self.window + 63) // 64 * 64
        fd = os.memfd_create("releases", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, PAGE + cells)
        # The mapping comes first: after the seal nobody gets another one.
        own = mmap.mmap(fd, PAGE + cells)
        header = (b"ENVMRING", 1, 3, PAGE + cells, self.window, 1, PAGE, cells)
        struct.pack_into("<8sIIQIIQQ", own, 0, *header)
        fcntl.fcntl(fd, F_ADD_SEALS, SEALS)
        self.cells = memoryview(own).cast("Q")[PAGE // 8:]
        return fd

    def next(self, sequence):
        """The image of the next record, which has this number."""
        assert struct.unpack_from("<Q", self.memory, PUBLISHED)[0] > self.position
        while True:
            at = self.offset + self.position % self.ring_bytes
            length, flags, number = struct.unpack_from("<IIQ", self.memory, at)
            self.position += (16 + length + 63) // 64 * 64
            if not flags & PADDING:
                break
        assert number == self.sequence == sequence, (number, self.sequence, sequence)
        self.sequence += 1
        return self.memory[at + 16 + IMAGE:at + 16 + length]

    def give_back(self, sequence):
        self.cells[sequence % self.window] = sequence + 1
        os.eventfd_write(self.bell, 1)


def decoded(trajectory):
    """The arrays of a message: what there is to do without an image."""
    tokens = trajectory.tokens
    yield "token_ids", numpy.array(tokens.token_ids, "uint32")
    yield "logprobs", numpy.array(tokens.logprobs, "float32")
    yield "loss_mask", numpy.frombuffer(tokens.loss_mask, "uint8")
    for index, blob in enumerate(trajectory.blobs):
        yield f"{index} {blob.name}", numpy.frombuffer(blob.data, blob.dtype)


def main():
    address, job_id, count, ring_bytes = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:5])
    pb, rpc = stubs()
    said = queue.SimpleQueue()
    channel = grpc.insecure_channel(address, [("grpc.max_receive_message_length", -1)])
    heard = rpc.RolloutsStub(channel).Drive(iter(said.get, None))
    token = secrets.token_bytes(32)

    def wait_for(kind):
        return next(getattr(it, kind) for it in heard if it.WhichOneof("response") == kind)

    job_id = input() if job_id == "-" else job_id
    said.put(pb.DriveRequest(request_id=1, attach=pb.AttachJob(job_id=job_id)))
    wait_for("accepted")
    ring = None
    if ring_bytes:
        wanted = pb.UseSharedMemory(job_id=job_id, ring_bytes=ring_bytes, token=token)
        said.put(pb.DriveRequest(request_id=2, use_shared_memory=wanted))
        ring = Ring(wait_for("shared_memory").socket, token)
    sums, in_memory, writable, numbers = {}, 0, 0, []
    credit = pb.GrantCredit(job_id=job_id, records=1 << 40, bytes=1 << 50)
    said.put(pb.DriveRequest(credit=credit))
    while len(numbers) < count:
        delivery = wait_for("delivery")
        content = delivery.WhichOneof("content")
        if content == "in_memory":
            image = Image(ring.next(delivery.in_memory.sequence))
            in_memory += 1
            arrays = (
                (name if isinstance(name, str) else f"{name[0]} {name[1]}", array)
                for name, array in image.arrays.items()
            )
        elif content == "trajectory":
            arrays = decoded(delivery.trajectory)
        else:
            continue
        if not numbers:
            began, cpu = time.perf_counter(), time.process_time()
        for name, array in arrays:
            sums[name] = sums.get(name, 0) + total(array)
            writable += array.flags.writeable
        if content == "in_memory":
            ring.give_back(delivery.in_memory.sequence)
        numbers.append(delivery.number)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    figures = {"seconds": seconds, "cpu_s": cpu, "in_memory": in_memory, "writable": writable}
    print(json.dumps({**figures, "numbers": numbers, "sums": sums}))
    # Without this the stream's thread goes on to wait for words.
    said.put(None)
    channel.close()


if __name__ == "__main__":
    main()
