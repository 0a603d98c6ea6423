# Writes tasks.parquet, as data sets for reinforcement learning are stored: with pyarrow (26.0.1).
import datetime
import decimal
import sys

import pyarrow as pa
import pyarrow.parquet as pq

message = pa.struct([("role", pa.string()), ("content", pa.large_string())])
schema = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", pa.list_(message)),
        ("answer", pa.struct([("value", pa.float64()), ("unit", pa.string())])),
        ("level", pa.dictionary(pa.int32(), pa.string())),
        ("seed", pa.int64()),
        ("weight", pa.float32()),
        ("tags", pa.map_(pa.string(), pa.int32())),
        ("hidden", pa.bool_()),
        ("added", pa.timestamp("ms")),
        ("price", pa.decimal128(9, 2)),
    ]
)
rows = [
    {
        "id": "a",
        "prompt": [{"role": "user", "content": "2 + 2 = “?”\n"}, {"role": "system", "content": None}],
        "answer": {"value": 4.0, "unit": None},
        "level": "easy",
        "seed": 2**53 + 1,
        "weight": 2.0,
        "tags": {"arithmetic": 1},
        "hidden": False,
        "added": datetime.datetime(2026, 1, 2, 3, 4, 5),
        "price": decimal.Decimal("1.50"),
    },
    {"id": "b", "prompt": [], "answer": None, "level": "hard", "seed": -1, "weight": 0.0},
    {"id": "c", "level": "easy", "weight": 0.5, "answer": {"value": 0.1, "unit": "m"}},
]
pq.write_table(pa.Table.from_pylist(rows, schema=schema), sys.argv[1])
