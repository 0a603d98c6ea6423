"""Records in TRL's own hands: its samples, its dataset over a worker's queue, and its way of putting
turns together. Needs what `testing/python/trainers-requirements.txt` has."""

from __future__ import annotations

import os
import queue
import sys
import threading
import types
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy
import pytest
import safetensors.torch
import torch
from conftest import REPOSITORY, until
from test_client import Service
from test_convert import FAILED, FIRST, SECOND, generation, left_over, record

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
sys.path.append(str(REPOSITORY / "examples" / "python"))

import trl_async
import trl_grpo
import trl_vllm
from datasets import Dataset
from openenv.core.harness.training import TrainingTrace
from trl import GRPOConfig, GRPOTrainer
from trl.experimental.async_grpo import AsyncGRPOConfig, AsyncGRPOTrainer
from trl.experimental.async_grpo.async_grpo_trainer import (
    RolloutQueueDataset,
    RolloutWorkerProtocol,
    WeightTransferProtocol,
)
from trl.experimental.async_grpo.async_rollout_worker import (
    RolloutSample,
    _chain_to_sequences,
)
from trl.experimental.async_grpo.openenv_harness import _turns_from_training_trace

import envmill
from envmill import convert
from envmill.convert import openenv, trl
from envmill.convert.trl_worker import WEIGHTS_KEPT, RolloutWorker, WeightFolders


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


def test_weights_go_through_folders(tmp_path: Path) -> None:
    weights = WeightFolders(tmp_path / "weights")
    transfer: WeightTransferProtocol = weights
    transfer.init_weight_transfer()
    assert weights.newest is None
    for number in range(5):
        transfer.pause()
        # A view, as some parameters are.
        sent = torch.full((4, 2), float(number)).T
        transfer.send_weights(iter([("layer.weight", torch.nn.Parameter(sent))]))
        transfer.resume()
        assert weights.newest is not None
        written = safetensors.torch.load_file(weights.newest / "model.safetensors")
        assert torch.equal(written["layer.weight"], sent)
    assert len(list((tmp_path / "weights").iterdir())) == WEIGHTS_KEPT
    transfer.destroy()
    assert not list((tmp_path / "weights").iterdir())


class Noted:
    """Stands in for a client and for a job of it, of which nothing comes."""

    def __init__(self) -> None:
        self.jobs: list[Mapping[str, Any]] = []
        self.published: list[tuple[int, str]] = []
        self.job_id = "noted.0"
        self._is_over = threading.Event()

    def rollouts(self, job: Mapping[str, Any]) -> Noted:
        self.jobs.append(job)
        return self

    def events(self) -> Iterator[Any]:
        self._is_over.wait()
        return iter(())

    def publish_version(self, step: int, weights: str = "") -> None:
        self.published.append((step, weights))

    def cancel(self) -> None:
        self._is_over.set()

    def close(self) -> None:
        pass


def test_each_version_is_announced_with_its_weights(tmp_path: Path) -> None:
    client = Noted()
    weights = WeightFolders(tmp_path)
    worker = RolloutWorker(client, [job(), job()], weights=weights)  # type: ignore[arg-type]

    def sync(version: int) -> str:
        """As the trainer does it."""
        weights.pause()
        weights.send_weights(iter([("weight", torch.zeros(1))]))
        weights.resume()
        worker.update_model_version(version)
        return str(weights.newest)

    weights.init_weight_transfer()
    first = sync(1)
    worker.start()
    until(lambda: bool(client.jobs))
    (begun,) = client.jobs
    assert (begun["policy"], begun["version"], begun["weights"]) == ("model", {"step": 1}, first)
    until(lambda: worker._played is not None)
    second = sync(2)
    assert client.published == [(2, second)]
    # What was sent is not announced before the trainer says so.
    weights.send_weights(iter([("weight", torch.zeros(1))]))
    worker.update_model_version(1)
    assert client.published == [(2, second)]
    worker.stop()


def test_a_policy_is_one_thing_or_the_other(tmp_path: Path) -> None:
    client: Any = Noted()
    with pytest.raises(ValueError, match="leave it out"):
        RolloutWorker(client, [job()], decide, weights=WeightFolders(tmp_path))
    for more in ({"policy": "model"}, {"weights": tmp_path}):
        with pytest.raises(ValueError, match="leave it out"):
            given = {"environment": "letters", **({"policy": "model"} if "policy" in more else {})}
            kept = {key: value for key, value in more.items() if key == "weights"}
            trl.RolloutFunc(client, given, lambda turns, trainer: {}, **kept)


def test_the_trainers_model_is_saved_for_each_step_that_is_played(tmp_path: Path) -> None:
    tokens = trl_grpo.tokenizer()
    client: Any = Noted()
    state = types.SimpleNamespace(global_step=0)
    model = trl_grpo.model(tokens)
    accelerator = types.SimpleNamespace(num_processes=1, unwrap_model=lambda it: it)
    trainer = types.SimpleNamespace(state=state, model=model, accelerator=accelerator)
    rollout_func = trl.RolloutFunc(client, {"environment": "letters"}, weights=tmp_path)
    assert rollout_func._version(trainer) == {
        "version": {"step": 0},
        "weights": str(tmp_path / "step-0"),
    }
    assert rollout_func._version(trainer) == {"version": {"step": 0}}
    for state.global_step in (1, 2, 3):
        said = rollout_func._version(trainer)
        assert (Path(said["weights"]) / "model.safetensors").exists()
    assert sorted(it.name for it in tmp_path.iterdir()) == ["step-2", "step-3"]
    accelerator.num_processes = 2
    with pytest.raises(ValueError, match="one process"):
        rollout_func._version(trainer)


def test_the_async_trainer_itself_trains(service: Service, tmp_path: Path) -> None:
    # All of it but what wants a GPU.
    trl_async.without_gpu()
    tokens = trl_vllm.tokenizer()
    trl_vllm.model(tokens).save_pretrained(tmp_path / "model")
    client = envmill.Client(service.url)
    jobs = (job(seed=seed) for seed in range(1000))
    worker = RolloutWorker(client, jobs, decide, samples_max=8)
    weights = WeightFolders(tmp_path / "weights")
    trainer = AsyncGRPOTrainer(
        model=str(tmp_path / "model"),
        args=AsyncGRPOConfig(
            output_dir=str(tmp_path / "trainer"), max_steps=3, num_generations=4,
            per_device_train_batch_size=8, token_budget=4096, dtype="float32", logging_steps=1,
            report_to="none", save_strategy="no", use_cpu=True, bf16=False,
            gradient_checkpointing=False, disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([{"prompt": "a"}] * 8),
        processing_class=tokens,
        rollout_worker=worker,
        weight_transfer=weights,
    )  # fmt: skip
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == 3
    assert all(numpy.isfinite(entry["loss"]) for entry in logged)
    # One before the first step, and one after each.
    assert trainer.model_version == 4
    assert not list((tmp_path / "weights").iterdir()), "the trainer's end is theirs"
    until(lambda: not left_over(client))
