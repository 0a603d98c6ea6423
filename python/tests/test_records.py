"""Records, read lazily from every format."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest

import envmill


@pytest.fixture(scope="module", params=["jsonl", "arrow", "parquet"])
def run(request: pytest.FixtureRequest) -> envmill.Run:
    return envmill.run("native:cartpole", episodes=40, seed=5, format=request.param)


def test_they_are_a_sequence(run: envmill.Run) -> None:
    records = run.records
    assert isinstance(records, Sequence)
    ids = [record.trajectory_id for record in records]
    assert len(set(ids)) == len(records) == 40
    assert [records[number].trajectory_id for number in range(len(records))] == ids
    assert records[-1].trajectory_id == ids[-1]
    assert [record.trajectory_id for record in records[3:30:7]] == ids[3:30:7]
    assert [record.trajectory_id for record in records[::-9]] == ids[::-9]
    for beyond in (40, -41):
        with pytest.raises(IndexError):
            records[beyond]


def test_a_record_says_what_was_played(run: envmill.Run) -> None:
    record = next(iter(run.records))
    assert record.environment == "native:cartpole"
    assert record.reset is not None
    assert record.reset.reward is None or record.reset.reward == 0
    assert isinstance(record.reset, envmill.Observed)
    assert not isinstance(record.reset, envmill.Step)
    for step in record.steps:
        assert json.loads(step.observation_bytes) == step.observation
        assert step.observation is step.observation
        assert json.loads(step.action_bytes) == step.action
        assert json.loads(step.reward_bytes) == step.reward == 1.0
    assert [step.ended for step in record.steps[:-1]] == [None] * (len(record.steps) - 1)
    assert record.steps[-1].ended is not None
    assert record.steps is record.steps
    assert record.task_id == ""
    assert record.reward_components == {}
    assert f"steps={len(record.steps)}" in repr(record)
    assert repr(record.end).startswith("End(kind=")


def test_it_has_its_plain_form(run: envmill.Run) -> None:
    record = run.records[7]
    plain = record.to_dict()
    assert plain["trajectory_id"] == record.trajectory_id
    assert plain["seed"] == record.seed
    assert plain["content_hash"] == record.content_hash
    assert plain["end"]["kind"] == record.end.kind
    assert [step["action"] for step in plain["steps"]] == [step.action for step in record.steps]
    again = pickle.loads(pickle.dumps(record))
    assert again.to_json() == record.to_json()
    assert envmill.Record.from_json(record.to_json()).to_dict() == plain


def test_what_was_not_kept_is_not_made_up(tmp_path: Path) -> None:
    run = envmill.run("native:echo", episodes=3, max_steps=1, out=tmp_path)
    whole = run.records_path.read_bytes()
    run.records_path.write_bytes(whole[:-5])
    records = iter(run.records)
    assert next(records).seed is not None
    assert next(records).seed is not None
    with pytest.raises(envmill.EnvmillError, match="not whole"):
        next(records)
    with pytest.raises(envmill.EnvmillError, match="cannot read"):
        iter(envmill.Records(tmp_path / "nothing.jsonl"))
    with pytest.raises(ValueError, match="is no record"):
        envmill.Record.from_json(b"nonsense")


def test_records_of_all_formats_are_the_same() -> None:
    runs = [
        envmill.run("native:wordguess", episodes=9, format=form)
        for form in ("jsonl", "arrow", "parquet")
    ]
    hashes = [{record.content_hash for record in run.records} for run in runs]
    assert hashes[0] == hashes[1] == hashes[2]
