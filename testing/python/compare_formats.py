"""Reads one job's records with pyarrow and checks that every format says the same.

usage: compare_formats.py JSONL ARROWS PARQUET

The three files hold the records of the same job with the same seed, played three times: what was
played must be equal, value for value. pyarrow (45 MB) is no part of the tests' environments; to run
this by hand:

    python -m venv /tmp/columns && /tmp/columns/bin/pip install pyarrow==26.0.1
    for format in jsonl arrow parquet; do
        envmill run --episodes 50 --name same --format $format --out /tmp/same-$format
    done
    /tmp/columns/bin/python testing/python/compare_formats.py \
        /tmp/same-jsonl/trajectories.jsonl /tmp/same-arrow/trajectories.arrows \
        /tmp/same-parquet/trajectories.parquet
"""

import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq

jsonl, arrows, parquet = sys.argv[1:]
with open(jsonl, encoding="utf-8") as lines:
    expected = {record["trajectory_id"]: record for record in map(json.loads, lines)}

tables = {
    "arrow": pa.ipc.open_stream(arrows).read_all(),
    "parquet": pq.read_table(parquet),
}
for name, table in tables.items():
    assert table.schema.metadata[b"envmill.schema_version"] == b"2", name
    assert table.schema.equals(tables["arrow"].schema), table.schema
    rows = table.to_pylist()
    assert len(rows) == len(expected), (name, len(rows))
    for row in rows:
        record = expected.pop(row["trajectory_id"]) if name == "parquet" else expected[row["trajectory_id"]]
        assert list(row) == [key for key in record if key != "schema_version"]
        for key in ("job_id", "group_id", "sample_index", "task_id", "seed", "agent_id", "reward"):
            assert row[key] == record[key], (name, key)
        assert row["content_hash"].hex() == record["content_hash"]
        assert json.loads(row["reset_parameters"]) == record["reset_parameters"]
        assert json.loads(row["reset"]["observation"]) == record["reset"]["observation"]
        assert row["messages"] is None and record["messages"] is None
        assert (row["end"]["kind"], row["end"]["cause"]) == (
            record["end"]["kind"],
            record["end"]["cause"],
        )
        assert len(row["steps"]) == len(record["steps"])
        for was, step in zip(record["steps"], row["steps"]):
            assert json.loads(step["action"]) == was["action"]
            assert json.loads(step["observation"]) == was["observation"]
            assert step["reward"] == was["reward"] and json.loads(step["reward_raw"]) == was["reward"]
            assert step["ended"] == was.get("ended")
        assert [a["steps"] for a in row["attempts"]] == [a["steps"] for a in record["attempts"]]
print(f"the same in {len(tables) + 1} formats: {len(rows)} records")
