"""Records for TRL: ``rollout_func`` of ``GRPOTrainer``, and the samples of ``AsyncGRPOTrainer``."""

from __future__ import annotations

import functools
import importlib
import json
import math
import os
import pathlib
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from envmill._client import Client
from envmill._native import Record, Turn
from envmill.convert._play import play
from envmill.convert._sequences import (
    Branches,
    CannotConvert,
    is_usable,
    only_sequence,
    reward,
    sequences,
)

SEEDS = 1 << 31
"""Seeds of environments are smaller."""

WEIGHTS_KEPT = 2
"""Folders of weights that are not removed."""


def rollout_output(
    records: Iterable[Record],
    *,
    blank: int | None = None,
    branches: Branches = "raise",
    logprobs: bool = True,
) -> dict[str, Any]:
    """The dictionary that a ``rollout_func`` returns, with a sample for each record, in their order.

    ======================== ==========================================================================
    ``prompt_ids``           the tokens before the first sampled one
    ``completion_ids``       all that follows, what the environment said in between included
    ``logprobs``             as many as ``completion_ids``; 0 where not sampled
    ``env_mask``             as many: 1 where a token was sampled and is to be trained on
    ``env_reward``           the reward; ``None`` if it is missing or the episode failed or was
                             cancelled, which the trainer leaves out of the group's mean and gives no
                             advantage
    ``end``                  how the episode ended: ``completed``, ``truncated``, ``failed``, …
    ``reward_components``    the named parts of the reward
    ``trajectory_id``        the record's
    ``model_version``        the step of the oldest version that sampled any of its tokens
    ======================== ==========================================================================

    All but the first four go to the reward functions, of which :func:`env_reward` is one.

    :param blank: the id of a token. The trainer needs a sample for each prompt, also where an episode
        has nothing to learn from (it failed, was cancelled, is stale or filtered): such a sample is
        this token as prompt and as completion, masked and without a reward. Usually the padding token.
    :param branches: what becomes of a record that is more than one sequence, for which there is no
        room: ``raise``, or ``last`` for the last one alone.
    :param logprobs: ``False`` for ``None``, as the trainer itself has it where nothing but itself
        samples.

    :raises CannotConvert: for an episode with nothing to learn from, without ``blank``.
    :raises TokensUnknown: for a usable episode whose tokens are not known.
    :raises LogprobsUnknown: for one whose logarithms are not.
    :raises Branched: for one that is more than one sequence, unless the last one is taken.
    """
    records = list(records)
    output: dict[str, Any] = {
        name: [] for name in ("prompt_ids", "completion_ids", "logprobs", "env_mask", "env_reward")
    }
    for record in records:
        if is_usable(record):
            it = only_sequence(record, branches)
            at = it.prompt_len
            output["prompt_ids"].append(it.token_ids[:at])
            output["completion_ids"].append(it.token_ids[at:])
            output["env_mask"].append(it.loss_mask[at:])
            if logprobs:
                output["logprobs"].append(it.known_logprobs(record)[at:])
        elif blank is None:
            raise CannotConvert(
                f"the record {record.trajectory_id} ended as {record.end.kind} ({record.end.cause}) "
                "and the trainer needs a sample for it: give a token for such samples (blank=)"
            )
        else:
            output["prompt_ids"].append([blank])
            output["completion_ids"].append([blank])
            output["env_mask"].append([0])
            output["logprobs"].append([0.0])
        output["env_reward"].append(reward(record))
    if not logprobs:
        output["logprobs"] = None
    output["end"] = [record.end.kind for record in records]
    output["reward_components"] = [record.reward_components for record in records]
    output["trajectory_id"] = [record.trajectory_id for record in records]
    output["model_version"] = [_oldest_step(record) for record in records]
    return output


def env_reward(env_reward: list[float | None], **_: Any) -> list[float | None]:
    """A reward function for ``GRPOTrainer``: what the environment, or the job's scorer, said."""
    return env_reward


def rollout_samples(records: Iterable[Record], group_id: int, *, name: str = "env") -> list[Any]:
    """The rows of one group for ``AsyncGRPOTrainer``: a ``RolloutSample`` for each sequence of each
    usable record.

    The advantage is that of TRL's own worker: the reward less the mean of those members that have one,
    over their standard deviation; 0 for a member without a reward, and the same for all rows of a
    member. Episodes that failed or were cancelled make no rows and do not count. ``model_version`` is
    the step of the oldest version that sampled any of the group's tokens.

    :param group_id: tells the group's rows from others; the trainer wants integers that grow.
    :param name: the reward's name among the trainer's metrics.

    :raises TokensUnknown: for a usable episode whose tokens are not known.
    :raises LogprobsUnknown: for one whose logarithms are not.
    """
    import numpy

    members = [record for record in records if is_usable(record)]
    if not members:
        return []
    worth = [reward(record) for record in members]
    rewards = numpy.array([math.nan if each is None else each for each in worth])
    scored = rewards[~numpy.isnan(rewards)]
    mean, deviation = (scored.mean(), scored.std()) if len(scored) else (0.0, math.nan)
    advantages = numpy.nan_to_num((rewards - mean) / (deviation + 1e-8), nan=0.0)
    version = min(_oldest_step(record) for record in members)
    worker = importlib.import_module("trl.experimental.async_grpo.async_rollout_worker")
    rows = []
    for record, each, advantage in zip(members, rewards.tolist(), advantages.tolist(), strict=True):
        said = _messages(record)
        metrics = {"reward": each, "reward_std": float(deviation), f"rewards/{name}": each}
        metrics |= {f"rewards/{part}": value for part, value in record.reward_components.items()}
        for it in sequences(record):
            if any(it.loss_mask):
                rows.append(
                    worker.RolloutSample(
                        prompt=said[:1],
                        completion=said[1:],
                        input_ids=numpy.array(it.token_ids, numpy.int64),
                        completion_mask=numpy.array(it.loss_mask, numpy.int64),
                        old_log_probs=numpy.array(it.known_logprobs(record), numpy.float32),
                        advantage=advantage,
                        model_version=version,
                        group_id=group_id,
                        metrics=dict(metrics),
                    )
                )
    return rows


def _oldest_step(record: Record) -> int:
    spans = [span for generation in record.generations for span in generation.policy_versions]
    return min((version.step for version, _ in spans or record.policy_versions), default=0)


def _messages(record: Record) -> list[dict[str, Any]]:
    """The conversation for people to look at: what the environment showed, and what was done."""
    if record.messages:
        return list(record.messages)
    said = []
    if record.reset is not None:
        said.append({"role": "user", "content": record.reset.observation_bytes.decode()})
    for step in record.steps:
        said.append({"role": "assistant", "content": step.action_bytes.decode()})
        said.append({"role": "user", "content": step.observation_bytes.decode()})
    return said


TrainerDecides: TypeAlias = Callable[[list[Turn], Any], Mapping[str, Any]]
"""Decides on a batch of turns with a trainer's model: gives the arguments of
:meth:`envmill.Policy.answer` that come after ``turns``."""


class RolloutFunc:
    """A ``rollout_func`` for ``GRPOTrainer``: each call is a job whose policy is the trainer, or the
    environment's language model. ::

        GRPOTrainer(
            rollout_func=RolloutFunc(client, {"environment": "letters"}, decide, blank=0),
            reward_funcs=env_reward,
            …
        )

    ``decide`` is called in the trainer's thread with the turns that wait, many at a time, and the
    trainer. Without it, the inference engines of the service's environment sample, and ``weights`` is
    how they come to the trainer's: at the first call, and at each after an optimizer step, its model is
    saved there, and the job begins when they have loaded it. ::

        RolloutFunc(client, {"environment": "letters"}, weights="/shared/weights", blank=0)

    Generations of one prompt are one group of the job. Records are acknowledged when they were
    converted. With several ranks each submits jobs of its own for its share of the prompts, and a
    prompt whose generations are spread over ranks is a group on each: what is to be the same for all of
    them belongs into ``task``.

    :param client: of the service that plays.
    :param job: the fields of the jobs, as :meth:`envmill.Client.rollouts` takes them; ``groups``,
        ``episodes``, ``tasks``, ``delivery`` and the samples are given by the prompts, and ``policy``
        by ``decide``: without it, it is ``model`` unless the job has another. Its
        ``seed`` (0 unless told) is that of the first call's first prompt, and every prompt gets the
        next.
    :param decide: decides on turns.
    :param weights: a folder that the trainer and the inference engines both see under this path. The
        weights after optimizer step ``n`` are in ``step-n`` and are version ``n``; the last two are
        kept. For a trainer of one process.
    :param gather_us: so many microseconds at most a turn waits for others, to be decided on together.
    :param task: the reset parameters for a prompt, as the dataset has it; none, unless told. If they
        have a ``seed``, the environment gets no other.
    :param blank: see :func:`rollout_output`, as for the other parameters.
    """

    def __init__(
        self,
        client: Client,
        job: Mapping[str, Any],
        decide: TrainerDecides | None = None,
        *,
        weights: str | os.PathLike[str] | None = None,
        task: Callable[[Any], Mapping[str, Any]] | None = None,
        gather_us: int = 20_000,
        blank: int | None = None,
        branches: Branches = "raise",
        logprobs: bool = True,
    ) -> None:
        given = {"groups", "episodes", "tasks", "task_set", "delivery"} & set(job)
        if given:
            raise ValueError(f"the prompts say what is played, not the job: leave out {sorted(given)}")
        if decide is not None and ("policy" in job or weights is not None):
            raise ValueError("`decide` is the policy: leave it out, or `policy` and `weights`")
        self._client = client
        self._job = dict(job)
        self._decide = decide
        self._weights = None if weights is None else pathlib.Path(weights).absolute()
        self._saved: list[pathlib.Path] = []
        self._task = task
        self._gather_us = gather_us
        self._how: dict[str, Any] = {"blank": blank, "branches": branches, "logprobs": logprobs}
        self._seed = int(self._job.pop("seed", 0))
        self._name = f"{self._job.pop('name', '') or 'trl'}-{uuid.uuid4().hex[:12]}"
        self._calls = 0

    def __call__(self, prompts: list[Any], trainer: Any) -> dict[str, Any]:
        """Plays an episode for each prompt, those of equal prompts as a group."""
        keys = [json.dumps(prompt, sort_keys=True, default=str) for prompt in prompts]
        counts = Counter(keys)
        samples = math.gcd(*counts.values())
        first = dict(zip(reversed(keys), reversed(prompts), strict=True))
        of_key = {
            key: [f"{number}.{part}" for part in range(count // samples)]
            for number, (key, count) in enumerate(counts.items())
        }
        parameters = {key: dict(self._task(first[key])) if self._task else {} for key in counts}
        tasks = [
            {"id": task_id, "parameters": parameters[key]}
            for key, task_ids in of_key.items()
            for task_id in task_ids
        ]
        job = {
            "no_seed": any("seed" in each for each in parameters.values()),
            **self._job,
            "name": f"{self._name}-{self._calls}",
            "groups": len(tasks),
            "group_rules": {**self._job.get("group_rules", {}), "samples": samples},
            "tasks": tasks,
            "seed": self._seed,
        }
        self._calls += 1
        self._seed = (self._seed + len(tasks)) % SEEDS
        decide = None
        if self._decide is None:
            job = {"policy": "model", **job, **self._version(trainer)}
        else:
            decide = functools.partial(self._decided, trainer)
        rollouts, records = play(self._client, job, decide, self._gather_us)
        with rollouts:
            output = rollout_output(_in_order(records, keys, of_key), **self._how)
            rollouts.ack(records)
        return output

    def _decided(self, trainer: Any, turns: list[Turn]) -> Mapping[str, Any]:
        assert self._decide is not None
        return self._decide(turns, trainer)

    def _version(self, trainer: Any) -> dict[str, Any]:
        """What a job says of its version, whose weights are saved if they are new."""
        if self._weights is None:
            return {}
        if trainer.accelerator.num_processes > 1:
            raise ValueError("weights: only a trainer of one process can say which the weights are")
        step = trainer.state.global_step
        folder = self._weights / f"step-{step}"
        if self._saved[-1:] == [folder]:
            return {"version": {"step": step}}
        trainer.accelerator.unwrap_model(trainer.model).save_pretrained(folder)
        self._saved.append(folder)
        # An inference engine that is started again loads those of the last job.
        while len(self._saved) > WEIGHTS_KEPT:
            shutil.rmtree(self._saved.pop(0), ignore_errors=True)
        return {"version": {"step": step}, "weights": str(folder)}


def _in_order(records: list[Record], keys: list[str], of_key: Mapping[str, list[str]]) -> list[Record]:
    """The records in the order of the prompts that they were played for. Of members that were started
    beyond the samples, those stand in for the ones that are not usable."""
    played: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda it: (not is_usable(it), it.group_id, it.sample_index)):
        played.setdefault(record.task_id, []).append(record)
    wanted = Counter(keys)
    left = {}
    for key, task_ids in of_key.items():
        share = wanted[key] // len(task_ids)
        left[key] = [record for task_id in task_ids for record in played[task_id][:share]]
    return [left[key].pop(0) for key in keys]
