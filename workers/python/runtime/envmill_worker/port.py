"""A worker's side of the two segments: requests in, answers out."""

import os
import select

import envmill_ring as ring

# What the engine asks for.
OPEN, RESET, STEP, STATE, TOOL, CLOSE, LAST_STEP = range(1, 8)
# What a worker answers: the frame that OpenEnv's `/ws` would send; that a session is gone; an
# observation in columns; a state; why a command failed; or, unasked, keys of numbers of `info`.
FRAME, CLOSED, SEEN, STATE_TEXT, FAILED, KEYS = range(1, 7)

# How often room is looked for, in milliseconds, where the engine has not taken what came before.
ROOM_PERIOD_MS = 1


class Gone(Exception):
    """The engine's end of the socket is closed."""


class Port:
    def __init__(self, channel, hello, fds, more_columns=()):
        self.channel = channel
        requests_fd, self.bell_in, self.bell_out = fds
        self.requests = ring.Reader(requests_fd)
        os.close(requests_fd)
        columns = [("id", "u64", ()), ("kind", "u8", ()), ("text", hello["arena_bytes"])]
        if more_columns:
            columns += [("info", hello["arena_bytes"]), *more_columns]
        self.answers = ring.Writer(columns, hello["rows"])
        self.state = self.answers.state
        self.overflows = {}
        self.waiting = []
        self.poll = select.poll()
        self.poll.register(self.bell_in, select.POLLIN)
        self.poll.register(channel.fileno(), select.POLLIN)

    def watch(self, fd):
        self.poll.register(fd, select.POLLIN)

    def wait(self, timeout_ms=None):
        """Waits until something may have come."""
        for fd, _ in self.poll.poll(timeout_ms):
            if fd == self.channel.fileno():
                self.hear()
            else:
                drain(fd)

    def hear(self):
        data, fds = self.channel.receive_bytes()
        if not data:
            raise Gone
        tag, _, number = ring.OVERFLOW.unpack(data)
        if tag != ring.OVERFLOW_TAG or len(fds) != 1:
            raise ring.RingError("a message that is none")
        size = os.fstat(fds[0]).st_size
        self.overflows[number] = os.pread(fds[0], size, 0) if size else b""
        os.close(fds[0])

    def take(self):
        """All requests that are there: (session and generation, kind, text)."""
        requests = []
        while (batch := self.next_batch()) is not None:
            requests += self.read(batch)
        return requests

    def next_batch(self):
        return self.requests.next()

    def read(self, batch):
        """A batch's requests; its place is the engine's again."""
        identities, kinds, texts = self.read_columns(batch)
        return list(zip(identities, kinds, texts or [b""] * len(identities)))

    def read_columns(self, batch):
        """The same by columns: sessions and generations, kinds, and texts, where there are any."""
        number, count, overflow, views = batch
        offsets, arena = views["text"]
        texts = None
        if overflow or offsets[count]:
            ends = offsets[: count + 1].tolist()
            if overflow:
                while number not in self.overflows:
                    self.hear()
                data = self.overflows.pop(number)
            else:
                data = bytes(arena[: ends[-1]])
            texts = [data[begin:end] for begin, end in zip(ends, ends[1:])]
        identities, kinds = views["id"][:count].tolist(), bytes(views["kind"][:count])
        self.requests.release(self.answers)
        return identities, kinds, texts

    def put(self, identity, kind, text):
        self.waiting.append((identity, kind, text))

    def flush(self):
        """Makes everything put so far the engine's."""
        waiting, rows = self.waiting, self.answers.rows
        if not waiting:
            return
        self.waiting = []
        for begin in range(0, len(waiting), rows):
            self.publish(waiting[begin : begin + rows])

    def publish(self, answers):
        views = self.begin()
        for row, (identity, kind, _) in enumerate(answers):
            views["id"][row] = identity
            views["kind"][row] = kind
        self.publish_begun(len(answers), {"text": [text for _, _, text in answers]})

    def begin(self):
        """The views of the next batch of answers, once there is room for it."""
        while (views := self.answers.begin(self.requests)) is None:
            # The engine has two batches before it; it may also have gone.
            poll = select.poll()
            poll.register(self.channel.fileno(), select.POLLIN)
            if poll.poll(ROOM_PERIOD_MS):
                self.hear()
        return views

    def publish_begun(self, count, texts):
        """Makes the begun batch the engine's, with its ragged columns."""
        bits = 0
        for name, of_column in texts.items():
            overflow = self.answers.put_texts(name, of_column)
            if overflow is not None:
                column = self.answers.by_name[name]
                bits |= 1 << column.index
                message = ring.OVERFLOW.pack(ring.OVERFLOW_TAG, column.index, self.answers.next)
                self.channel.send_bytes(message, [overflow])
                os.close(overflow)
        self.answers.publish(count, bits)
        os.eventfd_write(self.bell_out, 1)


def drain(fd):
    try:
        os.eventfd_read(fd)
    except BlockingIOError:
        pass
