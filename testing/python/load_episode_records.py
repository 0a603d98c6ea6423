"""Loads a directory of episodes with OpenEnv's own classes, as a reader of `openenv collect` does.

usage: load_episode_records.py DIRECTORY

Prints one JSON object: {"ids": [...], "rewards": [...], "turns": [...]}. Exits with status 1 and the
traceback on standard error if OpenEnv refuses a line.
"""

import json
import sys

from openenv.core.harness.collect import EpisodeRecord, RolloutSerializer

serializer = RolloutSerializer(sys.argv[1])
records = []
with serializer.results_path.open(encoding="utf-8") as lines:
    for line in lines:
        record = EpisodeRecord(**json.loads(line))
        assert record.to_dict() == json.loads(line), record.episode_id
        assert isinstance(record.reward, float), record.reward
        assert [message["role"] for message in record.messages[:2]] == ["user", "assistant"]
        assert len(record.tool_trace) == record.metrics["tool_calls"]
        for entry in record.tool_trace:
            assert set(entry) == {"tool_name", "arguments", "result"}
            assert set(entry["result"]) == {"data", "done", "metadata", "error"}
        records.append(record)
ids = serializer.collected_episode_ids()
assert ids == {record.episode_id for record in records}
print(
    json.dumps(
        {
            "ids": [record.episode_id for record in records],
            "rewards": [record.reward for record in records],
            "turns": [record.metrics["turns"] for record in records],
        }
    )
)
