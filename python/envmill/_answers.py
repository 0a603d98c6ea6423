"""What was generated for a turn, checked before it goes to the service, which would end the stream."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from envmill._native import Version

KINDS = ("agent", "auxiliary", "discarded")
"""What part a generation plays in its episode."""


class Generated(TypedDict, total=False):
    """One call of a language model, as :meth:`Policy.answer` takes it. The names are those of
    :class:`Generation`, and each may be left out."""

    prompt_token_ids: Iterable[Any] | None
    """What the model was given."""
    token_ids: Iterable[Any] | None
    """What it sampled; empty for nothing, ``None`` where that is unknown."""
    logprobs: Iterable[Any] | None
    """As many natural logarithms; ``None`` where they are unknown."""
    loss_mask: Iterable[Any] | None
    """As many of 1, for tokens to be trained on, and 0; ``None`` for all of them."""
    policy_versions: Sequence[tuple[Version, int]] | None
    """Which version sampled how many of them; ``None`` for the one that decided."""
    parent: int | None
    """The index, within the episode's generations, of the one that this one's prompt continues; ``None``
    to find it by its tokens."""
    kind: str | None
    """``agent``, ``auxiliary`` (a side call) or ``discarded`` (thrown away); ``None`` for ``agent``."""
    finish_reason: str | None
    """Why it stopped, as the inference engine said (``stop``, ``length``)."""
    tool: str | None
    """The tool that it called; of several, their names with commas between."""
    generation_us: int | None
    """Microseconds in the inference engine."""
    queue_us: int | None
    """Microseconds of waiting for it, where they are not among ``generation_us``."""


NAMES = tuple(Generated.__annotations__)


def columns(turns: list[int], given: Mapping[str, Any]) -> list[list[tuple[Any, ...]] | None]:
    """For each turn the one generation that lists with an entry for each turn make up; ``None`` where they
    say nothing of it."""
    values = {name: as_many(name, each, len(turns)) for name, each in given.items() if each is not None}
    answers: list[list[tuple[Any, ...]] | None] = []
    for place, turn in enumerate(turns):
        one = {name: each[place] for name, each in values.items()}
        if all(value is None for value in one.values()):
            answers.append(None)
        else:
            answers.append([_generation(f"turn {turn}", one)])
    return answers


def several(turns: list[int], generations: Iterable[Any]) -> list[list[tuple[Any, ...]] | None]:
    """For each turn its generations, in their order."""
    answers: list[list[tuple[Any, ...]] | None] = []
    given = as_many("generations", generations, len(turns))
    for turn, its in zip(turns, given, strict=True):
        if isinstance(its, Mapping):
            raise ValueError(
                f"generations of turn {turn}: a list of mappings for each turn, and not a mapping"
            )
        made = [_generation(f"turn {turn}, generation {at}", it) for at, it in enumerate(its or ())]
        answers.append(made or None)
    return answers


def as_many(name: str, values: Iterable[Any], count: int) -> list[Any]:
    """
    :raises ValueError: if there are not as many values as turns.
    """
    values = list(values)
    if len(values) != count:
        raise ValueError(f"{name}: {len(values)} for {count} turns")
    return values


def _generation(where: str, given: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the service takes, in the order of :data:`NAMES`; the last four together."""
    for name in given:
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f": there are {', '.join(NAMES)}"
            raise ValueError(f"{where}: there is no {name!r}{hint}")
    prompt = _listed(given.get("prompt_token_ids"))
    sampled = given.get("token_ids")
    tokens = _listed(sampled)
    logprobs = _listed(given.get("logprobs"))
    mask = [int(each) for each in _listed(given.get("loss_mask"))]
    versions = list(given.get("policy_versions") or ())
    if sampled is None and (prompt or logprobs or mask or versions):
        name = next(it for it in NAMES if it != "token_ids" and len(_listed(given.get(it))))
        raise ValueError(
            f"{where}: {name} without token_ids: say what was sampled ([] for nothing), or leave out both"
        )
    if sampled is not None and not tokens and not prompt:
        raise ValueError(
            f"{where}: nothing was sampled, for no prompt: say what the model was given "
            "(prompt_token_ids), or None for token_ids where they are unknown"
        )
    for name, each in (("logprobs", logprobs), ("loss_mask", mask)):
        if each and len(each) != len(tokens):
            raise ValueError(
                f"{where}: {name} has {len(each)} entries for {len(tokens)} tokens: as many, or None"
            )
    if any(each not in (0, 1) for each in mask):
        raise ValueError(f"{where}: loss_mask has 1 for tokens to be trained on, and else 0")
    covered = sum(count for _, count in versions)
    if versions and covered != len(tokens):
        raise ValueError(f"{where}: policy_versions covers {covered} of {len(tokens)} tokens")
    parent = given.get("parent")
    if parent is not None and not 0 <= parent < 1 << 32:
        raise ValueError(
            f"{where}: parent is the index of an earlier generation of the episode, from 0, and not {parent}"
        )
    kind = given.get("kind") or "agent"
    if kind not in KINDS:
        raise ValueError(f"{where}: kind is {', '.join(KINDS)}, and not {kind!r}")
    texts = [given.get(name) or "" for name in ("finish_reason", "tool")]
    times = [given.get(name) or 0 for name in ("generation_us", "queue_us")]
    if any(each < 0 for each in times):
        raise ValueError(f"{where}: generation_us and queue_us are microseconds, and not less than 0")
    return prompt, tokens, logprobs, mask, versions, parent, kind, (*texts, *times)


def _listed(values: Any) -> list[Any]:
    """A list of numbers; arrays have a quick way to become one."""
    if values is None or isinstance(values, (str, int)):
        return []
    listed: list[Any] = values.tolist() if hasattr(values, "tolist") else list(values)
    return listed
