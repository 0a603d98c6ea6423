"""Gymnasium environments: numbers cross as columns, and only what is no number as text.

An action's JSON is `{"action": …}` and an observation's `{"observation": …}`. Where a space has a fixed
number of numbers, a column holds them for all rows of a batch, and neither side parses or prints
anything in Python.
"""

import json
import time

import gymnasium
import numpy
from gymnasium import spaces

from .port import CLOSE, CLOSED, FAILED, OPEN, RESET, SEEN, STATE, STATE_TEXT, STEP
from .target import load_object, version

TERMINATED, TRUNCATED = 1, 2
# Larger observations go as text.
ROW_BYTES_MAX = 1 << 20
# As in `threads`: answers are handed over once they have gathered for so long.
FLUSH_S = 0.002

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
        columns = [("flags", "u8", ()), ("reward", "f64", ())]
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
        # Numpy's views of the columns, for each slot of the ring.
        self.actions = self.views(port.requests, "action", adapter.action_column)
        self.observations = self.views(port.answers, "observation", adapter.observation_column)
        self.begun = None

    @staticmethod
    def views(segment, name, found):
        if found is None:
            return None
        dtype, shape = found
        kind = next(each for each, code in DTYPES.items() if code == dtype)
        rows = segment.rows
        return [
            numpy.asarray(views[name]).view(kind).reshape(rows, *shape)
            for _, views in segment.laid_out
        ]

    def run(self):
        port, state = self.port, self.port.state
        while True:
            batch = port.next_batch()
            if batch is None:
                port.wait()
                continue
            requests, actions = self.take(batch)
            flush_at = time.monotonic() + FLUSH_S
            for row, (identity, kind, text) in enumerate(requests):
                state[0] = (identity >> 32) + 1
                self.handle(identity, kind, text, actions[row] if actions is not None else None)
                state[0] = 0
                if time.monotonic() >= flush_at:
                    self.flush()
                    flush_at = time.monotonic() + FLUSH_S
            self.flush()

    def take(self, batch):
        """The batch's requests, and its actions copied out of the ring, which is the engine's again."""
        number, count = batch[0], batch[1]
        actions = None
        if self.actions is not None:
            column = self.actions[number % self.port.requests.slots][:count]
            # Scalars as Python's own numbers, which is what most environments expect.
            actions = column.tolist() if column.ndim == 1 else column.copy()
        return self.port.read(batch), actions

    def handle(self, identity, kind, text, action):
        number = identity >> 32
        if kind == OPEN:
            self.sessions[number] = Session()
            return
        session = self.sessions.get(number)
        if session is None or kind == CLOSE:
            if kind == CLOSE:
                self.sessions.pop(number, None)
                if session is not None:
                    session.close()
                self.put(identity, CLOSED)
            return
        try:
            if kind == STATE:
                told = json.dumps({"episode_id": None, "step_count": session.steps}).encode()
                self.put(identity, STATE_TEXT, told)
                return
            if session.env is None:
                session.env = self.adapter.make()
            if kind == RESET:
                parameters = json.loads(text) if text else {}
                seen, info = session.env.reset(
                    seed=parameters.get("seed"), options=parameters.get("options")
                )
                session.steps = 0
                # A reset has no reward, which is not 0.
                self.see(identity, seen, info, float("nan"), 0)
            elif kind == STEP:
                if self.actions is None:
                    action = from_json(self.adapter.action_space, json.loads(text)["action"])
                seen, reward, terminated, truncated, info = session.env.step(action)
                session.steps += 1
                flags = TERMINATED * bool(terminated) | TRUNCATED * bool(truncated)
                self.see(identity, seen, info, reward, flags)
            else:
                self.put(identity, FAILED, b"the environment has no tools")
        except BaseException as error:  # noqa: BLE001
            told = f"{type(error).__name__}: {error}".encode("utf-8", "replace")
            self.put(identity, FAILED, told[:1024])

    def see(self, identity, seen, info, reward, flags):
        """An observation into the row that is next."""
        row = self.row()
        observations = self.observations
        text = b""
        if observations is None:
            text = json.dumps(to_json(self.adapter.observation_space, seen)).encode()
        else:
            # Numpy would spread a number over a row.
            if getattr(seen, "shape", ()) != self.column.shape[1:]:
                shape, expected = numpy.shape(seen), self.column.shape[1:]
                raise ValueError(f"an observation of shape {shape}, and not {expected}")
            self.column[row] = seen
        self.views_now["reward"][row] = reward
        self.views_now["flags"][row] = flags
        if flags:
            # For whoever hears of the end only that it has come, as OpenEnv's clients do.
            info = {**info, "truncated": flags == TRUNCATED}
        self.infos[row] = json.dumps(info, default=plain).encode() if info else b""
        self.finish(row, identity, SEEN, text)

    def put(self, identity, kind, text=b""):
        row = self.row()
        # An observation that came to nothing may have left its own.
        self.infos.pop(row, None)
        self.finish(row, identity, kind, text)

    def row(self):
        """The next row of the batch that is being filled; begins one where there is none."""
        if self.begun is not None and self.begun == self.port.answers.rows:
            self.flush()
        if self.begun is None:
            self.views_now = self.port.begin()
            if self.observations is not None:
                self.column = self.observations[self.port.answers.next % self.port.answers.slots]
            self.begun, self.texts, self.infos = 0, [], {}
        return self.begun

    def finish(self, row, identity, kind, text):
        views = self.views_now
        views["id"][row] = identity
        views["kind"][row] = kind
        self.texts.append(text)
        self.begun = row + 1

    def flush(self):
        if self.begun:
            infos = [self.infos.get(row, b"") for row in range(self.begun)]
            self.port.publish_begun(self.begun, {"text": self.texts, "info": infos})
        self.begun = None


class Session:
    __slots__ = ("env", "steps")

    def __init__(self):
        self.env, self.steps = None, 0

    def close(self):
        env, self.env = self.env, None
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
