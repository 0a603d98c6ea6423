"""Gymnasium's spaces as columns, as JSON Schemas, and their elements as JSON."""

import numpy
from gymnasium import spaces

# Larger observations go as text.
ROW_BYTES_MAX = 1 << 20
DTYPES = {
    "uint8": "u8", "int8": "i8", "uint16": "u16", "int16": "i16", "uint32": "u32", "int32": "i32",
    "uint64": "u64", "int64": "i64", "float32": "f32", "float64": "f64", "bool": "bool",
}  # fmt: skip


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
