"""Records as OpenEnv's own words for what a trainer takes: made by, and checked by, ``openenv``."""

from __future__ import annotations

import importlib
from typing import Any

from envmill._native import Generation, Record
from envmill.convert._sequences import (
    LogprobsUnknown,
    check_tokens,
    reward,
    sequences,
)


def training_trace(record: Record) -> Any:
    """The record's calls of the model as an ``openenv.core.harness.training.TrainingTrace``: one turn
    for each generation of the agent, with exactly the prompt that it was sampled for. Side calls and
    what was thrown away are left out. A record that has its conversation only as a whole becomes one
    turn.

    A turn's ``node_id`` is the trajectory's id and the generation's number; ``metadata`` has the ids of
    the record, and ``policy_versions`` as ``[step, lineage, tokens]``. A trace has no reward: that is
    :func:`verify_result`.

    :raises TokensUnknown: if the tokens of any generation are not known, or there is none.
    :raises LogprobsUnknown: if their logarithms are not.
    :raises pydantic.ValidationError: for what ``openenv`` finds wrong.
    """
    spoken = [
        (index, generation)
        for index, generation in enumerate(record.generations)
        if generation.kind == "agent"
    ]
    entries = [_entry(record, index, generation) for index, generation in spoken]
    if not entries:
        entries = [_whole(record)]
    training = importlib.import_module("openenv.core.harness.training")
    return training.TrainingTrace.from_entries(entries)


def trace_entries(record: Record) -> list[dict[str, Any]]:
    """The turns of :func:`training_trace` as ``TraceEntry``, each with the record's ``reward``:
    ``None`` where it is missing, which OpenEnv reads as unscored."""
    entries: list[dict[str, Any]] = training_trace(record).to_trace_entries()
    return [{**entry, "reward": reward(record)} for entry in entries]


def verify_result(record: Record) -> Any:
    """How the episode came out, as an ``openenv.core.harness.rollout.VerifyResult``. ``env_reward`` is
    ``None`` if the reward is missing or the episode is not usable; ``done`` only if the environment
    ended the episode, and not a limit. ``metrics`` has the components of the reward and the record's
    own."""
    rollout = importlib.import_module("openenv.core.harness.rollout")
    end = record.end
    metrics = {**record.metrics, **record.reward_components, "steps": len(record.steps)}
    artifacts = {
        "trajectory_id": record.trajectory_id,
        "end": {"kind": end.kind, "cause": end.cause, "message": end.message},
    }
    return rollout.VerifyResult(
        env_reward=reward(record),
        done=end.kind == "completed",
        metrics=metrics,
        artifacts=artifacts,
    )


def _entry(record: Record, index: int, generation: Generation) -> dict[str, Any]:
    check_tokens(record, index)
    prompt, sampled = generation.prompt_token_ids.tolist(), generation.token_ids.tolist()
    if len(generation.logprobs) != len(sampled):
        raise LogprobsUnknown(
            f"the record {record.trajectory_id} has no log-probabilities in its generation {index}: "
            "answer turns with `logprobs`, too"
        )
    spans = generation.policy_versions
    versions = [[version.step, version.lineage, tokens] for version, tokens in spans]
    more: dict[str, Any] = {"generation": index, "policy_versions": versions}
    if generation.parent is not None:
        more["parent"] = _node_id(record, generation.parent)
    if generation.step is not None:
        more["step"] = generation.step
    for name in ("finish_reason", "tool", "generation_us", "queue_us"):
        if told := getattr(generation, name):
            more[name] = told
    return {
        "prompt_token_ids": prompt,
        "completion_token_ids": sampled,
        "per_token_logps": generation.logprobs.tolist(),
        "loss_mask": [0] * len(prompt) + generation.loss_mask.tolist(),
        "metadata": {"node_id": _node_id(record, index), **_ids(record), **more},
    }


def _whole(record: Record) -> dict[str, Any]:
    (it,) = sequences(record)
    at = it.prompt_len
    return {
        "prompt_token_ids": it.token_ids[:at],
        "completion_token_ids": it.token_ids[at:],
        "per_token_logps": it.known_logprobs(record)[at:],
        "loss_mask": it.loss_mask,
        "metadata": {"node_id": _node_id(record, 0), **_ids(record)},
    }


def _node_id(record: Record, index: int) -> str:
    return f"{record.trajectory_id}/{index}"


def _ids(record: Record) -> dict[str, Any]:
    return {
        "trajectory_id": record.trajectory_id,
        "group_id": record.group_id,
        "sample_index": record.sample_index,
        "task_id": record.task_id,
        "environment": record.environment,
    }
