"""Groups of records as Atropos' ``ScoredDataGroup``: plain dictionaries, for which nothing is
imported."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from envmill._native import Record
from envmill.convert._sequences import (
    Branches,
    CannotConvert,
    Sequence,
    known_reward,
    only_sequence,
    reward,
)

NOT_TRAINED = -100
"""In ``masks``, where a token is not trained on."""

NOT_SAMPLED = 1.0
"""In ``inference_logprobs``, where a token is not trained on: no logarithm of a probability."""


def scored_data_group(
    records: Iterable[Record],
    *,
    unscored: Literal["raise", "drop"] = "raise",
    truncated: Literal["keep", "zero_advantage"] = "keep",
    branches: Branches = "raise",
) -> dict[str, Any] | None:
    """The members of one group as the dictionary that ``atroposlib.envs.base.ScoredDataGroup``
    describes and ``POST /scored_data`` takes.

    ``scores`` are rewards; what is made of them is the trainer's part. ``inference_logprobs`` is there
    if every member's logarithms are known, and ``messages`` if every member has its conversation as
    messages.

    :param records: all of one group, in any order; they go by ``sample_index``.
    :param unscored: what becomes of members without a reward (missing, or the episode failed or was
        cancelled), which Atropos has no word for: ``raise``, or ``drop``. A group that is smaller for
        it says so in ``group_overrides``; its environment may wait for another that fills the batch.
    :param truncated: members that were cut by a limit count as any other (``keep``), or not at all
        (``zero_advantage``: the override ``set_advantage_to_zero`` of Atropos' trainers).
    :param branches: what becomes of a member that is more than one sequence, for which a group has no
        room: ``raise``, or ``last`` for the last one alone.
    :returns: ``None`` if no member is left.

    :raises RewardMissing: for a member without a reward, unless they are dropped.
    :raises TokensUnknown: for a member whose tokens are not known.
    :raises Branched: for one that is more than one sequence, unless the last one is taken.
    :raises CannotConvert: if the records are not all of one group, or have one sample twice.
    """
    if unscored not in ("raise", "drop"):
        raise ValueError(f"unscored is 'raise' or 'drop', and not {unscored!r}")
    if truncated not in ("keep", "zero_advantage"):
        raise ValueError(f"truncated is 'keep' or 'zero_advantage', and not {truncated!r}")
    members = sorted(records, key=lambda record: record.sample_index)
    _check_group(members)
    kept = [it for it in members if unscored == "raise" or reward(it) is not None]
    if not kept:
        return None
    scores = [known_reward(it) for it in kept]
    spoken = [only_sequence(it, branches) for it in kept]
    group: dict[str, Any] = {
        "tokens": [it.token_ids for it in spoken],
        "masks": [_mask(it) for it in spoken],
        "scores": scores,
        "advantages": None,
        "ref_logprobs": None,
        "messages": None,
        "generation_params": kept[0].sampling,
        "inference_logprobs": None,
        "overrides": None,
        # Atropos' environments read it as a dictionary wherever it is there at all.
        "group_overrides": {"group_size": len(kept)} if len(kept) < len(members) else {},
        "images": None,
        "distill_token_ids": None,
        "distill_logprobs": None,
    }
    if all(it.logprobs is not None for it in spoken):
        group["inference_logprobs"] = [_logprobs(it) for it in spoken]
    if all(it.messages for it in kept):
        group["messages"] = [it.messages for it in kept]
    if truncated == "zero_advantage" and any(it.end.kind == "truncated" for it in kept):
        group["overrides"] = [
            {"set_advantage_to_zero": True} if it.end.kind == "truncated" else {} for it in kept
        ]
    return group


def _mask(it: Sequence) -> list[int]:
    pairs = zip(it.token_ids, it.loss_mask, strict=True)
    return [token if is_trained else NOT_TRAINED for token, is_trained in pairs]


def _logprobs(it: Sequence) -> list[float]:
    pairs = zip(it.logprobs or [], it.loss_mask, strict=True)
    return [logprob if is_trained else NOT_SAMPLED for logprob, is_trained in pairs]


def _check_group(members: list[Record]) -> None:
    groups = {(it.job_id, it.group_id) for it in members}
    if len(groups) > 1:
        raise CannotConvert(
            f"the records are of {len(groups)} groups: take them by the group "
            '({"delivery": {"order": "by_group"}}), or sort them by group_id'
        )
    samples = [it.sample_index for it in members]
    if len(set(samples)) < len(samples):
        raise CannotConvert("a sample is there twice: drop what comes again, by trajectory_id")
