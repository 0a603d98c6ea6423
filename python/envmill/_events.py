"""What a job's stream tells beside the records of its episodes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from envmill._native import Delivery, Record, Version


@dataclass(frozen=True)
class GroupRecord:
    """The record of one group, which comes after those of its members."""

    delivery: Delivery
    """How it came; its number is what :meth:`Rollouts.ack` takes."""
    job_id: str
    """The job's id."""
    group_id: int
    """The group's number within its job; its members' records carry the same."""
    task_id: str
    """The task's name; empty where there is none."""
    environment: str
    """The environment, as the engine's configuration names it."""
    seed: int | None
    """The seed given to the environment for every member, if one was."""
    asked: int
    """The samples that were asked for."""
    oversampled: int
    """The members beyond those that were started to spare the wait for the slowest."""
    complete_at: int
    """With so many usable members the group is complete, and the rest is cut."""
    used: int
    """Members that are there to train on: completed or truncated, and not filtered."""
    outcome: str
    """``complete``; ``short``, if it ended with fewer usable members than it needs; or ``filtered``."""
    filter: str
    """The filter that dropped the group; empty if none did."""
    refill_of: int | None
    """The filtered group that this one was started in place of."""
    first_observations: str
    """Whether the members began alike: ``agree``, ``differ`` or ``unknown``."""
    duplicates: int
    """Attempts that were started beside a slow one."""
    steps_used: int
    """Steps of the used members' recorded attempts."""
    steps_wasted: int
    """Steps of everything else."""
    tokens_used: int
    """Sampled tokens of the used members' recorded attempts."""
    tokens_wasted: int
    """Sampled tokens of everything else."""
    started_us: int
    """The first member was taken from the queue: microseconds from the start of the engine's run."""
    ended_us: int
    """The last member ended: microseconds from the start of the engine's run."""
    members: list[dict[str, Any]]
    """The members by their sample index, each with the fields of ``Member`` in ``record.proto``."""


@dataclass(frozen=True)
class JobEnd:
    """The account of a job that has ended. Each requested episode is in exactly one of the counts."""

    delivery: Delivery
    """How it came; its number is what :meth:`Rollouts.ack` takes, and the largest of the job."""
    job_id: str
    """The job's id."""
    requested: int
    """Episodes that were asked for."""
    extra: int
    """Members beyond the samples, and those of groups started in place of dropped ones."""
    completed: int
    """Ended by the environment."""
    truncated: int
    """Cut by a limit."""
    failed: int
    """Every attempt failed."""
    cancelled: int
    """Given up by someone's wish."""
    stale: int
    """In flight when the version moved on, and too old since."""
    filtered: int
    """Dropped with their group."""
    failures: dict[str, int]
    """Failed episodes by cause."""
    groups: int
    """Groups, if the job had them."""


@dataclass(frozen=True)
class Stale:
    """What is left of an episode whose record was too old when its turn came."""

    delivery: Delivery
    """How it came; its number is what :meth:`Rollouts.ack` takes."""
    trajectory_id: str
    """The episode's."""


@dataclass(frozen=True)
class Notice:
    """Something that needs no acknowledgement."""

    kind: str
    """``batch`` (a share of a batch follows), ``no_more_batches``, ``progress``, ``warning``,
    ``version`` (an announced version is now the one that episodes are begun on) or ``settled``
    (everything was acknowledged)."""
    fields: dict[str, Any]
    """The fields of the message of that name in ``rollouts.proto``."""


Event: TypeAlias = Record | GroupRecord | JobEnd | Stale | Notice
"""Whatever a job's stream tells."""


DELIVERED: dict[str, type[GroupRecord | JobEnd | Stale]] = {
    "Group": GroupRecord,
    "JobEnd": JobEnd,
    "Stale": Stale,
}
"""What is delivered, by the engine's name."""

FIELDS = {
    delivered: [field.name for field in fields(delivered) if field.name != "delivery"]
    for delivered in DELIVERED.values()
}


def event(told: tuple[str, Any, Delivery | None]) -> GroupRecord | JobEnd | Stale | Notice:
    """What the engine's name for it, its fields and its delivery make up."""
    name, said, delivery = told
    if delivery is not None:
        delivered = DELIVERED[name]
        return delivered(delivery=delivery, **{name: said[name] for name in FIELDS[delivered]})
    if isinstance(said, Version):
        said = {"version": said}
    words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    return Notice(words.removeprefix("_"), said or {})
