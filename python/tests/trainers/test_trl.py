"""Records in TRL's own hands: its samples, its dataset over a worker's queue, and its way of putting
turns together. Needs what `testing/python/trainers-requirements.txt` has."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from conftest import REPOSITORY, until
from test_client import Service
from test_convert import FAILED, FIRST, SECOND, generation, left_over, record

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
sys.path.append(str(REPOSITORY / "examples" / "python"))

import trl_grpo
from datasets import Dataset
from openenv.core.harness.training import TrainingTrace
from trl import GRPOConfig, GRPOTrainer
from trl.experimental.async_grpo.async_grpo_trainer import (
    RolloutQueueDataset,
    RolloutWorkerProtocol,
)
from trl.experimental.async_grpo.async_rollout_worker import (
    RolloutSample,
    _chain_to_sequences,
)
from trl.experimental.async_grpo.openenv_harness import _turns_from_training_trace

import envmill
from envmill import convert
from envmill.convert import openenv, trl
from envmill.convert.trl_worker import RolloutWorker


@pytest.mark.parametrize(
    "generations",
    [
        [FIRST],
        [FIRST, SECOND],
        [FIRST, SECOND, generation([1, 9], [7]), generation([1, 9, 7, 8], [2])],
        [FIRST, generation([1, 2, 3, 4, 5], [6, 7], loss_mask=[0, 1])],
    ],
)
def test_trl_puts_turns_together_as_we_do(generations: list[Any]) -> None:
    it = record(*generations)
    trace: TrainingTrace = openenv.training_trace(it)
    # Without its threshold for prompts that were tokenised again, of which the tail is overwritten.
    theirs, _ = _chain_to_sequences(_turns_from_training_trace(trace), "a", fork_threshold=0)
    ours = convert.sequences(it)
    assert [row.input_ids for row in theirs] == [row.token_ids for row in ours]
    assert [row.completion_mask for row in theirs] == [row.loss_mask for row in ours]
    assert [row.old_log_probs for row in theirs] == [row.logprobs for row in ours]


def test_the_trainer_takes_samples_that_have_no_reward(tmp_path: Path) -> None:
    tokens = trl_grpo.tokenizer()
    records = [
        record(FIRST, SECOND, reward=1.0),
        record(FIRST, reward=0.0),
        record(FIRST, reward=None),
        record(reward=1.0, end=FAILED),
    ]
    advantages: list[float] = []

    class Trainer(GRPOTrainer):  # type: ignore[misc]
        def _compute_loss(self, model: Any, inputs: Any) -> Any:
            order = inputs["completion_mask"].sum(1).argsort(descending=True)
            advantages.extend(inputs["advantages"][order].tolist())
            return super()._compute_loss(model, inputs)

    trainer = Trainer(
        model=trl_grpo.model(tokens),
        args=GRPOConfig(
            output_dir=str(tmp_path), max_steps=1, num_generations=4, per_device_train_batch_size=4,
            logging_steps=1, report_to="none", save_strategy="no", use_cpu=True, bf16=False,
        ),
        train_dataset=Dataset.from_list([{"prompt": "a"}] * 4),
        processing_class=tokens,
        reward_funcs=trl.env_reward,
        rollout_func=lambda prompts, trainer: trl.rollout_output(records, blank=0),
    )  # fmt: skip
    trainer.train()
    (logged,) = [entry for entry in trainer.state.log_history if "reward" in entry]
    # The mean of the two that have one; the others have no advantage.
    assert logged["reward"] == 0.5
    assert numpy.isfinite(logged["loss"])
    assert sorted(advantages) == pytest.approx([-0.7071, 0, 0, 0.7071], abs=1e-3)
    assert advantages[0] > 0


def test_samples_have_the_advantage_of_their_group() -> None:
    members = [
        record(FIRST, SECOND, sample_index=0, reward=1.0),
        record(FIRST, generation([8], [9], version=10), sample_index=1, reward=0.0),
        record(FIRST, sample_index=2, reward=None),
        record(FIRST, sample_index=3, reward=0.5, end=FAILED),
        record(generation([1], [2], loss_mask=[0]), sample_index=4, reward=0.5),
    ]
    rows = trl.rollout_samples(members, 7)
    assert all(type(row) is RolloutSample for row in rows)
    # The second member is two sequences; the failed one and the one that is all masked are none.
    ids = [row.input_ids.tolist() for row in rows]
    assert ids == [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4], [8, 9], [1, 2, 3, 4]]
    unit = 0.5 / numpy.std([1.0, 0.0, 0.5])
    assert [row.advantage for row in rows] == pytest.approx([unit, -unit, -unit, 0.0])
    assert {(row.group_id, row.model_version) for row in rows} == {(7, 10)}
    assert [len(row.input_ids) for row in rows] == [len(row.old_log_probs) for row in rows]
    assert rows[0].completion_mask.tolist() == [0, 0, 1, 1, 0, 1]
    assert (rows[0].input_ids.dtype, rows[0].old_log_probs.dtype) == (numpy.int64, numpy.float32)
    assert rows[0].metrics["reward"] == 1.0
    assert numpy.isnan(rows[-1].metrics["reward"])
    assert rows[0].metrics["rewards/door"] == 1.0
    assert rows[0].prompt == [{"role": "user", "content": "a corridor"}]
    assert trl.rollout_samples([record(FIRST, reward=0.5, end=FAILED)], 8) == []


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("service"))
    service.start()
    yield service
    service.end()


def decide(turns: list[envmill.Turn]) -> dict[str, Any]:
    return {
        "actions": [{"action": turn.episode % 2} for turn in turns],
        "prompt_token_ids": [[turn.group_id, *[7, 8] * turn.step] for turn in turns],
        "token_ids": [[7]] * len(turns),
        "logprobs": [[-0.5]] * len(turns),
    }


def job(**more: Any) -> dict[str, Any]:
    rules, limits = {"samples": 4}, {"max_steps": 20}
    return {"environment": "cartpole", "groups": 3, "group_rules": rules, "limits": limits, **more}


def dataset(worker: RolloutWorkerProtocol) -> Any:
    """As the trainer makes it of its worker."""
    return RolloutQueueDataset(
        rollout_queue=worker.rollout_buffer,
        model_version_fn=lambda: 0,
        check_health_fn=worker.check_health,
        stale_after_s=300,
        metrics=defaultdict(list),
        poll_interval_s=0.2,
    )


def test_the_trainers_dataset_takes_what_the_worker_plays(service: Service) -> None:
    client = envmill.Client(service.url)
    worker = RolloutWorker(client, [job(seed=1), job(seed=9)], decide)
    worker.start()
    worker.start()
    taken = iter(dataset(worker))
    rows = [next(taken) for _ in range(24)]
    with pytest.raises(RuntimeError, match="give it more jobs"):
        next(taken)
    groups: dict[int, list[Any]] = {}
    for row in rows:
        groups.setdefault(row["group_id"], []).append(row)
        assert row["input_ids"].shape == row["completion_mask"].shape == row["old_log_probs"].shape
    assert sorted(groups) == list(range(6))
    for group in groups.values():
        assert len(group) == 4
        assert sum(row["advantage"] for row in group) == pytest.approx(0, abs=1e-6)
    worker.stop()
    until(lambda: not left_over(client))


def test_new_weights_are_announced(service: Service) -> None:
    client = envmill.Client(service.url)
    is_new = threading.Event()

    def deciding(turns: list[envmill.Turn]) -> dict[str, Any]:
        if any(turn.group_id >= 4 for turn in turns):
            is_new.wait()
        return decide(turns)

    worker = RolloutWorker(client, [job(groups=40, limits={"max_steps": 3, "sessions": 4})], deciding)
    # As a trainer says that goes on from a checkpoint.
    worker.update_model_version(5)
    worker.start()
    first = worker.rollout_buffer.get()
    assert first.model_version == 5
    worker.update_model_version(6)
    worker.update_model_version(2)
    is_new.set()
    seen = {worker.rollout_buffer.get().model_version for _ in range(40 * 4 - 1)}
    assert seen == {5, 6}
    worker.stop()


def test_what_was_not_taken_comes_again(service: Service) -> None:
    client = envmill.Client(service.url)
    worker = RolloutWorker(client, [job(groups=9, name="again")], decide, samples_max=8)
    worker.start()
    for _ in range(6):
        worker.rollout_buffer.get()
    until(worker.rollout_buffer.full)
    worker.check_health(300)
    worker.stop()
    jobs = [it["progress"]["job_id"] for it in client.status()["jobs"]]
    (name,) = [it for it in jobs if it.startswith("again.")]
    with client.attach(name) as rollouts:
        left = list(rollouts)
        rollouts.ack(left)
    # One group was taken as a whole, and of another one a half: that one comes again with all the rest.
    assert len({record.group_id for record in left}) == 8
    assert len(left) == 32


def test_a_worker_that_fails_says_so(service: Service) -> None:
    client = envmill.Client(service.url)

    def broken(turns: list[envmill.Turn]) -> dict[str, Any]:
        raise KeyError("the model is gone")

    def silent(turns: list[envmill.Turn]) -> dict[str, Any]:
        return {"actions": [{"action": 0}] * len(turns)}

    for worker, why in (
        (RolloutWorker(client, [job()], broken), "the model is gone"),
        (RolloutWorker(client, [job(environment="nowhere")], decide), "nowhere"),
        (RolloutWorker(client, [job()], silent), "token_ids"),
    ):
        worker.start()
        with pytest.raises(RuntimeError, match=why):
            next(iter(dataset(worker)))
        worker.stop()


def test_what_came_before_a_failure_can_be_taken(service: Service) -> None:
    client = envmill.Client(service.url)

    def breaking(turns: list[envmill.Turn]) -> dict[str, Any]:
        if any(turn.group_id > 5 for turn in turns):
            raise KeyError("the model is gone")
        return decide(turns)

    limits = {"max_steps": 2, "sessions": 4}
    worker = RolloutWorker(client, [job(groups=50, limits=limits)], breaking)
    worker.start()
    until(lambda: "is gone" in unwell(worker))
    assert worker.rollout_buffer.qsize() > 0
    while not worker.rollout_buffer.empty():
        worker.rollout_buffer.get()
    assert "is gone" in unwell(worker)
    worker.stop()


def unwell(worker: RolloutWorker) -> str:
    """What the worker says that is the matter with it."""
    try:
        worker.check_health(300)
    except RuntimeError as error:
        return str(error)
    return ""


def test_a_worker_that_nothing_comes_from_is_not_healthy(service: Service) -> None:
    client = envmill.Client(service.url)
    is_over = threading.Event()

    def dawdling(turns: list[envmill.Turn]) -> dict[str, Any]:
        is_over.wait()
        return decide(turns)

    worker = RolloutWorker(client, [job()], dawdling)
    worker.start()

    def is_stale() -> bool:
        try:
            worker.check_health(1)
        except RuntimeError as error:
            return "look at the environments" in str(error)
        return False

    until(is_stale)
    worker.check_health(3_600)
    with pytest.raises(queue.Empty):
        worker.rollout_buffer.get_nowait()
    is_over.set()
    worker.stop()
    worker.stop()
