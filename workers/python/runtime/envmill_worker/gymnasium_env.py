"""Gymnasium environments: numbers cross as columns, and only what is no number as text.

An action's JSON is `{"action": …}` and an observation's `{"observation": …}`. Where a space has a fixed
number of numbers, a column holds them for all rows of a batch, and neither side parses or prints
anything in Python.
"""

import json
import time
from array import array

import gymnasium
import numpy
from gymnasium import spaces

from .port import CLOSE, CLOSED, FAILED, KEYS, OPEN, RESET, SEEN, STATE, STATE_TEXT, STEP
from .target import load_object, version

TERMINATED, TRUNCATED = 1, 2
# Larger observations go as text.
ROW_BYTES_MAX = 1 << 20
# So many numbers of an `info` go as numbers, and further ones as text.
NUMBERS = 16
# So many lists of their keys are told.
LISTS_MAX = 1024
# As in `threads`: answers are handed over once they have gathered for so long.
FLUSH_S = 0.005

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
        """Takes requests, of which nearly all are steps whose action and observation are numbers: those
        are taken here, and not by a call for each."""
        sessions, state, answers = self.sessions, self.port.state, self.answers
        gathered, seen_all, shape = answers.gathered, answers.seen, answers.shape
        rows = self.port.answers.rows
        clock, is_numeric = time.monotonic, self.is_numeric
        flush_at = clock() + FLUSH_S
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
                    flags = 0
                    if terminated or truncated:
                        flags = TERMINATED * bool(terminated) | TRUNCATED * bool(truncated)
                        info = ending(info, flags)
                    which, info = answers.split(info) if info else (0, b"")
                    row = identity, SEEN, b"", info, float(reward), flags, which
                    if getattr(seen, "shape", ()) != shape:
                        raise misshapen(seen, shape)
                    gathered.append(row)
                    seen_all.append(seen)
                except BaseException as error:  # noqa: BLE001
                    answers.fail(identity, error)
            if clock() >= flush_at or len(gathered) >= rows:
                answers.flush()
                flush_at = clock() + FLUSH_S

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
                parameters = json.loads(text) if text else {}
                seen, info = session.env.reset(
                    seed=parameters.get("seed"), options=parameters.get("options")
                )
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
    """Answers that gather, and go into the ring together: a column at a time."""

    def __init__(self, port, adapter):
        self.port, self.space = port, adapter.observation_space
        self.observations = column_views(port.answers, "observation", adapter.observation_column)
        self.shape = tuple(adapter.observation_column[1]) if self.observations is not None else None
        # (identity, kind, text, info, reward, flags, which keys) of each, and the observations among them
        # that are numbers.
        self.gathered, self.seen = [], []
        # The numbers of `info`, with their row; and the keys that they have had so far.
        self.numbers, self.known = [], {}
        self.info_numbers = column_views(port.answers, "info_numbers", ("f64", (NUMBERS,)))

    def see(self, identity, seen, info, reward, flags):
        """An observation."""
        text, reward = b"", float(reward)
        which, info = self.split(info) if info else (0, b"")
        if self.observations is None:
            text = json.dumps(to_json(self.space, seen)).encode()
        elif getattr(seen, "shape", ()) != self.shape:
            raise misshapen(seen, self.shape)
        self.add(identity, SEEN, text, info, reward, flags, which)
        if self.observations is not None:
            self.seen.append(seen)

    def put(self, identity, kind, text=b""):
        self.add(identity, kind, text, b"", 0.0, 0, 0)

    def fail(self, identity, error):
        told = f"{type(error).__name__}: {error}".encode("utf-8", "replace")
        self.put(identity, FAILED, told[:1024])

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
            if len(self.gathered) == self.port.answers.rows:
                self.flush()
            self.numbers.append((len(self.gathered), numbers))
        return which, json.dumps(rest, default=plain).encode() if rest else b""

    def tell(self, keys):
        """Keys that have not been together before. `None` where they never are the same for long."""
        if len(self.known) == LISTS_MAX:
            return None
        which = self.known[keys] = len(self.known) + 1
        self.add(0, KEYS, json.dumps(keys).encode(), b"", 0.0, 0, 0)
        return which

    def add(self, *row):
        if len(self.gathered) == self.port.answers.rows:
            self.flush()
        self.gathered.append(row)

    def flush(self):
        """Makes everything that has gathered the engine's."""
        count = len(self.gathered)
        if not count:
            return
        identities, kinds, texts, infos, rewards, flags, which = zip(*self.gathered)
        views = self.port.begin()
        for name, values, code in (
            ("id", identities, "Q"), ("kind", kinds, "B"), ("reward", rewards, "d"),
            ("flags", flags, "B"), ("info_keys", which, "I"),
        ):  # fmt: skip
            if count == 1:
                views[name][0] = values[0]
            else:
                views[name][:count] = memoryview(array(code, values))
        if self.numbers:
            column = self.info_numbers[self.port.answers.next % self.port.answers.slots]
            for row, numbers in self.numbers:
                column[row, : len(numbers)] = numbers
            self.numbers.clear()
        if self.seen:
            column = self.observations[self.port.answers.next % self.port.answers.slots]
            if len(self.shape) == 1 and len(self.seen) == count > 1:
                rows = column[:count].reshape(-1)
                numpy.concatenate(self.seen, out=rows, casting="unsafe")
            else:
                rows = [row for row, kind in enumerate(kinds) if kind == SEEN]
                for row, seen in zip(rows, self.seen):
                    column[row] = seen
        self.port.publish_begun(count, {"text": texts, "info": infos})
        self.gathered.clear()
        self.seen.clear()


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
