"""Groups of records in Atropos' own hands: its model, its server, and what its trainer makes of a
batch. Needs what `testing/python/trainers-requirements.txt` has."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
from atroposlib.api.server import ScoredData, app
from atroposlib.envs.base import ScoredDataGroup
from example_trainer.data import pad_data_to_good_offset
from fastapi.testclient import TestClient
from test_convert import FIRST, SECOND, record

from envmill.convert import atropos


def group(**how: Any) -> dict[str, Any]:
    members = [
        record(FIRST, SECOND, sample_index=0, reward=1),
        record(FIRST, sample_index=1, reward=0, end={"kind": "truncated", "cause": "max_steps"}),
    ]
    made = atropos.scored_data_group(members, **how)
    assert made is not None
    return made


def test_the_fields_are_those_of_a_scored_data_group() -> None:
    assert set(group()) == set(ScoredDataGroup.__annotations__)


@pytest.mark.parametrize("truncated", ["keep", "zero_advantage"])
def test_the_servers_model_accepts_it(truncated: str) -> None:
    made = group(truncated=truncated)
    checked = ScoredData.model_validate(made, strict=True)
    assert checked.model_dump(exclude={"env_id"}) == made


def test_a_trainer_gets_from_the_server_what_was_sent() -> None:
    with TestClient(app) as client:
        trainer = {
            "wandb_group": "g", "wandb_project": "p", "batch_size": 2, "max_token_len": 64,
            "checkpoint_dir": "", "save_checkpoint_interval": 0, "starting_step": 0, "num_steps": 1,
        }  # fmt: skip
        client.post("/register", json=trainer).raise_for_status()
        client.get("/info").raise_for_status()
        sent = group(truncated="zero_advantage")
        told = client.post("/scored_data", json=sent)
        assert told.json() == {"status": "received"}
        batch = client.get("/batch").json()
    (got,) = batch["batch"]
    assert got["tokens"] == sent["tokens"]
    tokens, labels, advantages, temperatures, logprobs = pad_data_to_good_offset(batch, 2)
    # What is predicted is the next token: labels begin with the second one.
    assert tokens[0][0, :6].tolist() == [1, 2, 3, 4, 5, 6]
    assert labels[0][0, :6].tolist() == [-100, 3, 4, -100, 6, -100]
    assert advantages[0].flatten().tolist() == [1.0, 0.0]
    assert temperatures[0].flatten().tolist() == [1.0, 1.0]
    assert logprobs is not None
    assert logprobs[0][0, :5].tolist() == [1.0, -0.25, -0.25, 1.0, -0.25]
    assert numpy.isin(logprobs[0].numpy(), [1.0, -0.25]).all()
