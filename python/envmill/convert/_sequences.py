"""A record's conversation as sequences of tokens, which is what every trainer wants of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from envmill._native import Generation, Record

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

Branches: TypeAlias = Literal["raise", "last"]
"""What becomes of a record that is more than one sequence, where there is room for one."""


class CannotConvert(ValueError):
    """A record has not what a trainer needs. The message says what to do."""


class TokensUnknown(CannotConvert):
    """Nobody has said which tokens were sampled, or for which prompt."""


class LogprobsUnknown(CannotConvert):
    """Nobody has said how likely the sampled tokens were."""


class RewardMissing(CannotConvert):
    """The episode has no reward, which is not the same as a reward of 0."""


class Branched(CannotConvert):
    """The conversation is more than one sequence: a later prompt did not begin with what came
    before."""


@dataclass(frozen=True)
class Sequence:
    """Tokens that a trainer can learn from in one piece. Lists have the length of ``token_ids``."""

    token_ids: list[int]
    """A prompt and all that follows."""
    prompt_len: int
    """How many tokens were there before the first sampled one."""
    loss_mask: list[int]
    """1 where a token was sampled by the policy and is to be trained on."""
    logprobs: list[float] | None
    """Natural logarithms, 0 where not sampled; ``None`` if those of any generation are unknown."""

    def known_logprobs(self, record: Record) -> list[float]:
        """``logprobs``.

        :raises LogprobsUnknown: if they are not known.
        """
        if self.logprobs is None:
            raise LogprobsUnknown(
                f"{_named(record)} has tokens without log-probabilities: answer turns with `logprobs`, "
                "too"
            )
        return self.logprobs


def is_usable(record: Record) -> bool:
    """Whether there is an episode to learn from: one that was completed or truncated."""
    return record.end.kind in ("completed", "truncated")


def reward(record: Record) -> float | None:
    """The reward of an episode that is usable; ``None`` if it is missing, or the episode is not
    usable."""
    worth = record.reward
    return None if worth is None or math.isnan(worth) or not is_usable(record) else worth


def known_reward(record: Record) -> float:
    """:func:`reward`.

    :raises RewardMissing: if it is missing.
    """
    worth = reward(record)
    if worth is None:
        raise RewardMissing(
            f"{_named(record)} has no reward, and that is not 0: leave the record out, or have the "
            "episodes of its job scored (a `scorer`)"
        )
    return worth


def sequences(record: Record) -> list[Sequence]:
    """The agent's conversation, in order: one sequence, or several where it is not one.

    A generation continues a sequence if its prompt begins with all of its tokens, to the last one. What
    is new in the prompt is what the environment said, and is not trained on. A prompt that begins
    otherwise (a history that was summarised, a template that leaves thoughts out, text that was
    tokenised again) begins a sequence of its own: tokens are trained on once, on exactly the prompt
    that they were sampled for. Side calls and what was thrown away (``kind`` is not ``agent``) are left
    out.

    :raises TokensUnknown: if the tokens of any generation are not known, or there is none.
    """
    if len(record.token_ids):
        return [
            Sequence(
                record.token_ids.tolist(),
                record.prompt_len,
                record.loss_mask.tolist(),
                record.logprobs.tolist(),
            )
        ]
    grown: list[_Growing] = []
    for index, generation in enumerate(record.generations):
        if generation.kind != "agent":
            continue
        check_tokens(record, index)
        if not len(generation.token_ids):
            # Nothing was sampled: there is nothing to learn from.
            continue
        fitting = [each for each in grown if each.is_continued_by(generation)]
        if fitting:
            place = max(fitting, key=lambda each: len(each.token_ids))
        else:
            place = _Growing()
            grown.append(place)
        place.add(index, generation)
    if not grown:
        raise TokensUnknown(
            f"{_named(record)} has no tokens: nothing in it was sampled from a language model. It "
            f"ended as {record.end.kind} ({record.end.cause})"
        )
    return [each.sequence() for each in grown]


def check_tokens(record: Record, index: int) -> None:
    """
    :raises TokensUnknown: if it is not known what was sampled in a generation, or for which prompt.
    """
    # Where tokens are unknown, so is the prompt; tokens without one are of no use.
    if not record.generations[index].prompt_len:
        raise TokensUnknown(
            f"{_named(record)} does not say what was sampled in its generation {index}, or for which "
            "prompt: answer turns with `prompt_token_ids`, `token_ids` and `logprobs`"
        )


def only_sequence(record: Record, branches: Branches) -> Sequence:
    """The one sequence of a record, where a trainer has room for one.

    :raises Branched: if it is several and ``branches`` is ``raise``.
    """
    if branches not in ("raise", "last"):
        raise ValueError(f"branches is 'raise' or 'last', and not {branches!r}")
    found = sequences(record)
    if len(found) > 1 and branches == "raise":
        raise Branched(
            f"{_named(record)} is {len(found)} sequences, and there is room for one: have prompts "
            "begin with what came before them, or take the last sequence (branches='last')"
        )
    return found[-1]


class _Growing:
    """A sequence to which generations are added."""

    def __init__(self) -> None:
        import numpy

        self.token_ids: NDArray[numpy.uint32] = numpy.zeros(0, numpy.uint32)
        self._prompt_len = 0
        self._last: int | None = None
        self._loss_mask: list[int] = []
        self._logprobs: list[float] = []
        self._are_logprobs_known = True

    def is_continued_by(self, generation: Generation) -> bool:
        import numpy

        if generation.parent is not None and generation.parent != self._last:
            return False
        held = self.token_ids
        if generation.prompt_len < len(held):
            return False
        return numpy.array_equal(generation.prompt_token_ids[: len(held)], held)

    def add(self, index: int, generation: Generation) -> None:
        import numpy

        prompt, sampled = generation.prompt_token_ids, generation.token_ids
        if self._last is None:
            self._prompt_len = len(prompt)
        heard = len(prompt) - len(self.token_ids)
        self._last = index
        self.token_ids = numpy.concatenate([prompt, sampled])
        self._loss_mask += [0] * heard + generation.loss_mask.tolist()
        self._are_logprobs_known &= len(generation.logprobs) == len(sampled)
        self._logprobs += [0.0] * heard + generation.logprobs.tolist()

    def sequence(self) -> Sequence:
        logprobs = self._logprobs if self._are_logprobs_known else None
        return Sequence(self.token_ids.tolist(), self._prompt_len, self._loss_mask, logprobs)


def _named(record: Record) -> str:
    return f"the record {record.trajectory_id or '(without an id)'}"
