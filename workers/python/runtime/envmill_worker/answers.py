"""Answers of environments whose observations are numbers, on their way into the ring."""

import json
import struct
from operator import attrgetter

import numpy

from .port import FAILED, KEYS, SEEN, STATE_TEXT
from .spaces import DTYPES, plain, to_json

# So many numbers of an `info` go as numbers, and further ones as text.
NUMBERS = 16
# So many lists of their keys are told.
LISTS_MAX = 1024
# Observations up to there are copied twice, since going through numpy for each costs more.
SMALL_BYTES = 1024
DTYPE_OF, SHAPE_OF = attrgetter("dtype"), attrgetter("shape")


def column_views(segment, name, found):
    """Numpy's views of a column of numbers, for each slot; `None` where there is no such column."""
    if found is None:
        return None
    dtype, shape = found
    kind = next(each for each, code in DTYPES.items() if code == dtype)
    return [
        numpy.asarray(views[name]).view(kind).reshape(segment.rows, *shape)
        for views in segment.laid_out
    ]


def misshapen(seen, shape):
    # Numpy would spread a number over a row.
    return ValueError(f"an observation of shape {numpy.shape(seen)}, and not {shape}")


class Answers:
    """Answers that gather, and go into the ring together: a column at a time.

    Most are observations alone: numbers, a reward, and nothing else. What else a row has is kept apart
    and put into columns that otherwise stay as they are.
    """

    def __init__(self, port, adapter):
        self.port, self.space = port, adapter.observation_space
        self.observations = column_views(port.answers, "observation", adapter.observation_column)
        self.info_numbers = column_views(port.answers, "info_numbers", ("f64", (NUMBERS,)))
        if self.observations is not None:
            self.shape = tuple(adapter.observation_column[1])
            self.dtype = self.observations[0].dtype
            self.is_small = self.observations[0][:1].nbytes <= SMALL_BYTES
        # Of each row; and the observations of those that have numbers.
        self.identities, self.rewards, self.seen = [], [], []
        # By their rows.
        self.kinds, self.flags, self.which = [], [], []
        self.texts, self.infos, self.numbers = {}, {}, []
        self.packers = Packers()
        # Which keys of numbers the engine has been told.
        self.known = {}
        # For each place in the ring, what is to be as usual again.
        self.unusual = [[] for _ in range(port.answers.slots)]
        for views in port.answers.laid_out:
            views["kind"][:] = bytes([SEEN]) * port.answers.rows

    def see(self, identity, seen, info, reward, flags):
        """An observation."""
        reward = float(reward)
        which, rest = self.split(info) if info else (0, b"")
        text = b""
        if self.observations is None:
            text = json.dumps(to_json(self.space, seen)).encode()
        row = self.add(identity, SEEN, text)
        self.rewards[row] = reward
        if self.observations is not None:
            self.seen.append(seen)
        if flags:
            self.flags.append((row, flags))
        if which:
            self.which.append((row, which))
        if rest:
            self.infos[row] = rest

    def put(self, identity, kind, text=b""):
        self.add(identity, kind, text)

    def tell_state(self, identity, steps):
        """All that Gymnasium's environments tell of their state; the engine has counted the steps."""
        told = {"episode_id": None, "step_count": int(steps)}
        self.put(identity, STATE_TEXT, json.dumps(told).encode())

    def fail(self, identity, error):
        self.put(identity, FAILED, told(error))

    def split(self, info):
        """Which numbers `info` has, and the rest of it as text; the numbers are kept for the row that is
        next. What is a number here does not depend on what came before, so neither does the record."""
        keys, numbers, rest = [], [], {}
        for key, value in info.items():
            kind = KINDS[type(value)]
            # Whole numbers up to there are among the fractions that a column has.
            is_exact = kind != "i" or -(2**53) <= value <= 2**53
            if kind is not None and is_exact and len(keys) < NUMBERS and type(key) is str:
                keys.append((key, kind))
                numbers.append(value)
            else:
                rest[key] = value
        which = 0
        if keys:
            keys = tuple(keys)
            which = self.known.get(keys) or self.tell(keys)
            if which is None:
                return 0, json.dumps(info, default=plain).encode()
            self.make_room()
            self.numbers.append((len(self.identities), numbers))
        return which, json.dumps(rest, default=plain).encode() if rest else b""

    def tell(self, keys):
        """Keys that have not been together before. `None` where they never are the same for long."""
        if len(self.known) == LISTS_MAX:
            return None
        which = self.known[keys] = len(self.known) + 1
        self.add(0, KEYS, json.dumps(keys).encode())
        return which

    def add(self, identity, kind, text):
        """A row; its number."""
        self.make_room()
        row = len(self.identities)
        self.identities.append(identity)
        self.rewards.append(0.0)
        if kind != SEEN:
            self.kinds.append((row, kind))
        if text:
            self.texts[row] = text
        return row

    def make_room(self):
        if len(self.identities) == self.port.answers.rows:
            self.flush()

    def flush(self):
        """Makes everything that has gathered the engine's."""
        count = len(self.identities)
        if not count:
            return
        views, slot, unusual = self.begin()
        if self.seen:
            self.put_observations(self.observations[slot], count)
        self.packers["Q", count].pack_into(views["id"], 0, *self.identities)
        self.packers["d", count].pack_into(views["reward"], 0, *self.rewards)
        for name, values, usual in (
            ("kind", self.kinds, SEEN), ("flags", self.flags, 0), ("info_keys", self.which, 0)
        ):  # fmt: skip
            view = views[name]
            for row, value in values:
                view[row] = value
                unusual.append((view, row, usual))
            values.clear()
        for row, numbers in self.numbers:
            self.info_numbers[slot][row, : len(numbers)] = numbers
        texts = {}
        if self.texts or self.infos or self.port.answers.filled[slot]:
            texts = {"text": ragged(self.texts, count), "info": ragged(self.infos, count)}
        self.port.publish_begun(count, texts)
        for gathered in (
            self.identities, self.rewards, self.seen, self.numbers, self.texts, self.infos
        ):  # fmt: skip
            gathered.clear()

    def begin(self):
        """The views of the next batch, all of whose rows are as usual; its place in the ring; and the list
        of what of it will be otherwise."""
        views = self.port.begin()
        slot = self.port.answers.next % self.port.answers.slots
        unusual = self.unusual[slot]
        for view, row, usual in unusual:
            view[row] = usual
        unusual.clear()
        return views, slot, unusual

    def see_all(self, identities, seen, rewards, infos):
        """Observations of rows that stepped together, of which none ends, a column at a time: at once, and
        as `see` would have it. Whether that could be: whether the observations are what their space says,
        and the rewards and each `info` are numbers that all rows have."""
        count = len(identities)
        if self.observations is None or not isinstance(seen, numpy.ndarray):
            return False
        if not are_numbers(rewards, count):
            return False
        if seen.dtype != self.dtype or seen.shape != (count, *self.shape):
            return False
        keys, numbers = [], []
        for key, value in infos.items():
            if type(key) is not str or not are_numbers(value, count):
                return False
            if not key.startswith("_"):
                keys.append((key, value.dtype.kind.replace("u", "i")))
                numbers.append(value)
            elif value.dtype.kind != "b" or not value.all():
                return False
        if len(keys) > NUMBERS or count > self.port.answers.rows:
            return False
        keys = tuple(keys)
        which = self.known.get(keys) or self.tell(keys) if keys else 0
        if which is None:
            return False
        self.flush()
        views, slot, unusual = self.begin()
        self.observations[slot][:count] = seen
        self.packers["Q", count].pack_into(views["id"], 0, *identities)
        self.packers["d", count].pack_into(views["reward"], 0, *rewards.tolist())
        if keys:
            self.info_numbers[slot][:count, : len(keys)] = numpy.stack(numbers, axis=1)
            view = views["info_keys"]
            for row in range(count):
                view[row] = which
                unusual.append((view, row, 0))
        has_texts = self.port.answers.filled[slot]
        self.port.publish_begun(count, {"text": None, "info": None} if has_texts else {})
        return True

    def put_observations(self, column, count):
        seen = self.seen
        if self.is_small and len(seen) == count > 1:
            try:
                is_plain = list(map(DTYPE_OF, seen)).count(self.dtype) == count
                if is_plain and list(map(SHAPE_OF, seen)).count(self.shape) == count:
                    column[:count].data.cast("B")[:] = b"".join(seen)
                    return
            except (AttributeError, BufferError, TypeError, ValueError):
                pass  # something is no array, or one with gaps
        others = {row for row, kind in self.kinds}
        rows = [row for row in range(count) if row not in others]
        for row, it in zip(rows, seen):
            try:
                if getattr(it, "shape", ()) != self.shape:
                    raise misshapen(it, self.shape)
                column[row] = it
            except BaseException as error:  # noqa: BLE001
                self.kinds.append((row, FAILED))
                self.texts[row] = told(error)
                self.infos.pop(row, None)


def are_numbers(value, count):
    """Whether a vectorised value is, for each row, a number that is among the fractions."""
    if not isinstance(value, numpy.ndarray) or value.shape != (count,):
        return False
    if value.dtype.kind not in "biuf" or value.itemsize > 8:
        return False
    if value.dtype.kind in "iu" and value.itemsize == 8:
        return -(2**53) <= int(value.min()) and int(value.max()) <= 2**53
    return True


def told(error):
    return f"{type(error).__name__}: {error}".encode("utf-8", "replace")[:1024]


def ragged(texts, count):
    """A column of texts; `None` for one without any."""
    return [texts.get(row, b"") for row in range(count)] if texts else None


class Packers(dict):
    """For a code and a count, what writes so many numbers."""

    def __missing__(self, key):
        code, count = key
        self[key] = struct.Struct(f"={count}{code}")
        return self[key]


class Kinds(dict):
    """What JSON takes a number of a type for; `None` where it is none."""

    def __missing__(self, kind):
        if issubclass(kind, (bool, numpy.bool_)):
            letter = "b"
        elif issubclass(kind, (int, numpy.integer)):
            letter = "i"
        else:
            letter = "f" if issubclass(kind, (float, numpy.floating)) else None
        self[kind] = letter
        return letter


KINDS = Kinds()
