"""Gymnasium environments: numbers cross as columns, and only what is no number as text.

An action's JSON is `{"action": …}` and an observation's `{"observation": …}`. Where a space has a fixed
number of numbers, a column holds them for all rows of a batch, and neither side parses or prints
anything in Python.
"""

import json
import struct
import time
from operator import attrgetter

import gymnasium
import numpy
from gymnasium import spaces

from .port import CLOSE, CLOSED, FAILED, KEYS, OPEN, RESET, SEEN, STATE, STATE_TEXT, STEP
from .target import load_object, version

TERMINATED, TRUNCATED = 1, 2
DTYPE_OF, SHAPE_OF = attrgetter("dtype"), attrgetter("shape")
# Larger observations go as text.
ROW_BYTES_MAX = 1 << 20
# So many numbers of an `info` go as numbers, and further ones as text.
NUMBERS = 16
# So many lists of their keys are told.
LISTS_MAX = 1024
# Observations up to there are copied twice, since going through numpy for each costs more.
SMALL_BYTES = 1024
# As in `threads`: answers are handed over once they have gathered for so long.
FLUSH_S = 0.005
# So many rows that took no longer together are followed by as many before the clock is looked at again.
QUICK_ROWS, QUICK_S = 8, 0.001

DTYPES = {
    "uint8": "u8", "int8": "i8", "uint16": "u16", "int16": "i16", "uint32": "u32", "int32": "i32",
    "uint64": "u64", "int64": "i64", "float32": "f32", "float64": "f64", "bool": "bool",
}  # fmt: skip


class GymnasiumEnv:
    """What the engine's target names, looked at once a process."""

    def __init__(self, config):
        self.config, self.name = config, config["target"]
        self.arguments = config.get("arguments") or {}
        probe = self.make()
        self.action_space, self.observation_space = probe.action_space, probe.observation_space
        self.spec = probe.spec
        probe.close()
        self.action_column = column(self.action_space)
        self.observation_column = column(self.observation_space)

    def make(self):
        if self.name.startswith("gymnasium/"):
            name = self.name.removeprefix("gymnasium/")
            return gymnasium.make(name, disable_env_checker=True, **self.arguments)
        return load_object(self.name)(**self.arguments)

    def describe(self):
        return {
            "name": self.name.removeprefix("gymnasium/"),
            "action": schema("action", self.action_space),
            "observation": schema("observation", self.observation_space),
            "reset_observation": schema("observation", self.observation_space),
            "state": {
                "type": "object",
                "properties": {"episode_id": {"type": "null"}, "step_count": {"type": "integer"}},
            },
            "concurrent": True,
            "versions": {"gymnasium": version("gymnasium"), "numpy": version("numpy")},
            "columns": {"action": self.action_column, "observation": self.observation_column},
        }

    def answer_columns(self):
        """What the answers have beside those of every worker."""
        columns = [
            ("flags", "u8", ()),
            ("reward", "f64", ()),
            ("info_numbers", "f64", (NUMBERS,)),
            ("info_keys", "u32", ()),
        ]
        if self.observation_column is not None:
            dtype, shape = self.observation_column
            columns.append(("observation", dtype, shape))
        return columns

    def serve(self, port):
        Server(port, self).run()


class Server:
    def __init__(self, port, adapter):
        self.port, self.adapter = port, adapter
        self.sessions = {}
        # Numpy's views of the actions, for each slot of the ring.
        self.actions = column_views(port.requests, "action", adapter.action_column)
        self.answers = Answers(port, adapter)
        self.is_numeric = self.actions is not None and adapter.observation_column is not None

    def run(self):
        port = self.port
        while True:
            batch = port.next_batch()
            if batch is None:
                port.wait()
                continue
            actions = self.take_actions(batch)
            identities, kinds, texts = port.read_columns(batch)
            texts = texts or [b""] * len(kinds)
            # Without a column for them, actions are texts.
            self.take(identities, kinds, texts, texts if actions is None else actions)
            port.state[0] = 0
            self.answers.flush()

    def take_actions(self, batch):
        """The batch's actions, copied out of the ring, which will be the engine's again."""
        if self.actions is None:
            return None
        number, count = batch[0], batch[1]
        column = self.actions[number % self.port.requests.slots][:count]
        # Scalars as Python's own numbers, which is what most environments expect.
        return column.tolist() if column.ndim == 1 else column.copy()

    def take(self, identities, kinds, texts, actions):
        """Takes requests, of which nearly all are steps whose action and observation are numbers and that
        end nothing: those are taken here, and not by a call for each."""
        sessions, state, answers = self.sessions, self.port.state, self.answers
        answered, rewards, seen_all = answers.identities, answers.rewards, answers.seen
        rows = self.port.answers.rows
        clock, is_numeric = time.monotonic, self.is_numeric
        looked_at = clock()
        flush_at, look_at = looked_at + FLUSH_S, 0
        for identity, kind, text, action in zip(identities, kinds, texts, actions):
            number = identity >> 32
            state[0] = number + 1
            session = sessions.get(number)
            if kind != STEP or session is None or not is_numeric:
                self.handle(identity, kind, text, action)
            else:
                try:
                    step = session.step or self.begin(session)
                    seen, reward, terminated, truncated, info = step(action)
                    session.steps += 1
                    if terminated or truncated or info:
                        flags = TERMINATED * bool(terminated) | TRUNCATED * bool(truncated)
                        answers.see(identity, seen, ending(info, flags), reward, flags)
                    else:
                        rewards.append(float(reward))
                        answered.append(identity)
                        seen_all.append(seen)
                except BaseException as error:  # noqa: BLE001
                    answers.fail(identity, error)
            if len(answered) >= look_at:
                now = clock()
                if now >= flush_at or len(answered) >= rows:
                    answers.flush()
                    flush_at = now + FLUSH_S
                # Where steps take no time, neither should looking at it.
                look_at = len(answered) + (QUICK_ROWS if now - looked_at < QUICK_S else 1)
                look_at, looked_at = min(look_at, rows), now

    def begin(self, session):
        """Makes a session's environment; its `step`."""
        session.env = self.adapter.make()
        session.step = session.env.step
        return session.step

    def handle(self, identity, kind, text, action):
        number = identity >> 32
        if kind == OPEN:
            self.sessions[number] = Session()
            return
        session, answers = self.sessions.get(number), self.answers
        if session is None or kind == CLOSE:
            if kind == CLOSE:
                self.sessions.pop(number, None)
                if session is not None:
                    session.close()
                answers.put(identity, CLOSED)
            return
        try:
            if kind == STATE:
                told = json.dumps({"episode_id": None, "step_count": session.steps}).encode()
                answers.put(identity, STATE_TEXT, told)
                return
            step = session.step or self.begin(session)
            if kind == RESET:
                seed, options = reset_parameters(text)
                seen, info = session.env.reset(seed=seed, options=options)
                session.steps = 0
                # A reset has no reward, which is not 0.
                answers.see(identity, seen, info, float("nan"), 0)
            elif kind == STEP:
                if self.actions is None:
                    action = from_json(self.adapter.action_space, json.loads(text)["action"])
                seen, reward, terminated, truncated, info = step(action)
                session.steps += 1
                flags = TERMINATED * bool(terminated) | TRUNCATED * bool(truncated)
                answers.see(identity, seen, ending(info, flags), reward, flags)
            else:
                answers.put(identity, FAILED, b"the environment has no tools")
        except BaseException as error:  # noqa: BLE001
            answers.fail(identity, error)


def reset_parameters(text):
    """The seed and the options of a reset."""
    if text.startswith(b'{"seed":') and text[8:-1].isdigit():
        # As nearly always; `json` takes ten times as long.
        return int(text[8:-1]), None
    parameters = json.loads(text) if text else {}
    return parameters.get("seed"), parameters.get("options")


def ending(info, flags):
    # For whoever hears of the end only that it has come, as OpenEnv's clients do.
    return {**info, "truncated": flags == TRUNCATED} if flags else info


def column_views(segment, name, found):
    """Numpy's views of a column of numbers, for each slot; `None` where there is no such column."""
    if found is None:
        return None
    dtype, shape = found
    kind = next(each for each, code in DTYPES.items() if code == dtype)
    return [
        numpy.asarray(views[name]).view(kind).reshape(segment.rows, *shape)
        for _, views in segment.laid_out
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
        for _, views in port.answers.laid_out:
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
        views = self.port.begin()
        slot = self.port.answers.next % self.port.answers.slots
        unusual = self.unusual[slot]
        for view, row, usual in unusual:
            view[row] = usual
        unusual.clear()
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


class Session:
    __slots__ = ("env", "step", "steps")

    def __init__(self):
        self.env, self.step, self.steps = None, None, 0

    def close(self):
        env, self.env, self.step = self.env, None, None
        if env is not None:
            try:
                env.close()
            except BaseException:  # noqa: BLE001
                pass


def column(space):
    """(element type, shape) of a space with a fixed number of numbers, else `None`."""
    if isinstance(space, spaces.Discrete):
        return "i64", ()
    if isinstance(space, (spaces.Box, spaces.MultiDiscrete, spaces.MultiBinary)):
        dtype = DTYPES.get(space.dtype.name)
        size = int(numpy.prod(space.shape)) * space.dtype.itemsize
        if dtype and len(space.shape) <= 4 and 0 < size <= ROW_BYTES_MAX:
            return dtype, tuple(space.shape)
    return None


def schema(name, space):
    found = {
        "type": "object",
        "title": name.capitalize(),
        "properties": {name: space_schema(space)},
        "required": [name],
    }
    if name == "action":
        found["additionalProperties"] = False
    return found


def space_schema(space):
    """The JSON Schema of a space's elements."""
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return {"type": "integer", "minimum": start, "maximum": start + int(space.n) - 1}
    if isinstance(space, spaces.Box):
        kind = "integer" if numpy.issubdtype(space.dtype, numpy.integer) else "number"
        return array_schema(space.shape, {"type": kind, **bounds(space)})
    if isinstance(space, spaces.MultiBinary):
        return array_schema(space.shape, {"type": "integer", "minimum": 0, "maximum": 1})
    if isinstance(space, spaces.MultiDiscrete) and len(space.shape) == 1:
        rows = [
            {"type": "integer", "minimum": int(low), "maximum": int(low + n - 1)}
            for low, n in zip(space.start, space.nvec)
        ]
        return {"type": "array", "prefixItems": rows, "minItems": len(rows), "maxItems": len(rows)}
    if isinstance(space, spaces.Dict):
        properties = {key: space_schema(each) for key, each in space.spaces.items()}
        return {"type": "object", "properties": properties, "required": list(properties)}
    if isinstance(space, spaces.Tuple):
        rows = [space_schema(each) for each in space.spaces]
        return {"type": "array", "prefixItems": rows, "minItems": len(rows), "maxItems": len(rows)}
    if isinstance(space, spaces.Text):
        return {"type": "string", "minLength": space.min_length, "maxLength": space.max_length}
    return {}


def bounds(space):
    """What all numbers of a box keep to, where that is finite."""
    found = {}
    if not space.low.size:
        return found
    low, high = space.low.min(), space.high.max()
    if numpy.isfinite(low):
        found["minimum"] = low.item()
    if numpy.isfinite(high):
        found["maximum"] = high.item()
    return found


def array_schema(shape, item):
    for extent in reversed(shape):
        item = {"type": "array", "items": item, "minItems": int(extent), "maxItems": int(extent)}
    return item


def from_json(space, value):
    """An element of a space from its JSON."""
    if isinstance(space, spaces.Dict):
        return {key: from_json(each, value[key]) for key, each in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(from_json(each, part) for each, part in zip(space.spaces, value, strict=True))
    if isinstance(space, spaces.Discrete):
        return int(value)
    if isinstance(space, (spaces.Box, spaces.MultiBinary, spaces.MultiDiscrete)):
        return numpy.asarray(value, dtype=space.dtype).reshape(space.shape)
    return value


def to_json(space, value):
    """The JSON of an element of a space."""
    if isinstance(space, spaces.Dict):
        return {key: to_json(each, value[key]) for key, each in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return [to_json(each, part) for each, part in zip(space.spaces, value)]
    return plain(value)


def plain(value):
    """What `json` does not know itself."""
    if isinstance(value, numpy.ndarray):
        return value.tolist()
    if isinstance(value, numpy.generic):
        return value.item()
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, (str, int, float, bool, list, dict, type(None))):
        return value
    return str(value)
