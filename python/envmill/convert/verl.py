"""Records as verl's ``AgentLoopOutput``: what agent loops return, checked by ``verl`` itself."""

from __future__ import annotations

import importlib
from typing import Any, Literal

from envmill._native import Record
from envmill.convert._sequences import (
    Branches,
    CannotConvert,
    is_usable,
    known_reward,
    only_sequence,
    reward,
)

MICROSECONDS = 1e6
"""In a second."""


def agent_loop_output(
    record: Record, *, unscored: Literal["raise", "leave"] = "raise", branches: Branches = "raise"
) -> Any:
    """The record as a ``verl.experimental.agent_loop.agent_loop.AgentLoopOutput``.

    ``response_logprobs`` is ``None`` if any are unknown. ``num_turns`` counts what the agent said and
    what it was shown before each. Of ``metrics``, ``generate_sequences`` and ``tool_calls`` are the
    seconds that the policy and the environment took. Of ``extra_fields``, ``min_global_steps`` and
    ``max_global_steps`` are the steps of the oldest and the newest version that sampled,
    ``turn_scores`` the rewards of the steps (``None`` where missing), and ``reward_extra_info`` the
    components of the reward, which verl wants to be the same for all records of a batch. Nothing is
    cut: lengths are yours to keep.

    :param unscored: what becomes of an episode whose reward is missing: ``raise``, or ``leave`` for a
        ``reward_score`` of ``None``, which verl's own reward loop fills in, if there is one.
    :param branches: what becomes of a record that is more than one sequence: ``raise``, or ``last`` for
        the last one alone.

    :raises CannotConvert: for an episode that failed, was cancelled, is stale or filtered: verl has no
        word for it.
    :raises RewardMissing: if the reward is, unless it is left out.
    :raises TokensUnknown: if the tokens are not known.
    :raises Branched: for more than one sequence, unless the last one is taken.
    """
    if unscored not in ("raise", "leave"):
        raise ValueError(f"unscored is 'raise' or 'leave', and not {unscored!r}")
    if not is_usable(record):
        raise CannotConvert(
            f"the record {record.trajectory_id} ended as {record.end.kind} ({record.end.cause}), for "
            "which verl has no word: leave it out"
        )
    it = only_sequence(record, branches)
    at = it.prompt_len
    loop = importlib.import_module("verl.experimental.agent_loop.agent_loop")
    extra: dict[str, Any] = {
        "turn_scores": [step.reward for step in record.steps],
        "reward_extra_info": record.reward_components,
        "trajectory_id": record.trajectory_id,
        "end": record.end.kind,
    }
    spans = [span for generation in record.generations for span in generation.policy_versions]
    steps = [version.step for version, _ in spans or record.policy_versions]
    if steps:
        extra |= {"min_global_steps": min(steps), "max_global_steps": max(steps)}
    return loop.AgentLoopOutput(
        prompt_ids=it.token_ids[:at],
        response_ids=it.token_ids[at:],
        response_mask=it.loss_mask[at:],
        response_logprobs=None if it.logprobs is None else it.logprobs[at:],
        reward_score=known_reward(record) if unscored == "raise" else reward(record),
        num_turns=2 * sum(generation.kind == "agent" for generation in record.generations),
        metrics=loop.AgentLoopMetrics(
            generate_sequences=sum(step.policy_us for step in record.steps) / MICROSECONDS,
            tool_calls=sum(step.environment_us for step in record.steps) / MICROSECONDS,
        ),
        extra_fields=extra,
    )
