"""The engine. What is public here is so as ``envmill.NAME``."""

from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from typing import Any, final

__version__: str

def main(arguments: Sequence[str], program: Sequence[str], python: str) -> int: ...
def setting_names() -> list[str]: ...
def count_records(path: str | PathLike[str]) -> int: ...

@final
class Job:
    def __new__(cls, settings: str, config: str | None = None) -> Job: ...
    @property
    def out(self) -> str | PathLike[str] | None: ...
    def run(
        self,
        out: str,
        program: Sequence[str],
        quiet: bool,
        on_progress: Callable[[int, int, int, int, int, float], object] | None,
    ) -> Played: ...

@final
class Played:
    @property
    def summary(self) -> str: ...
    @property
    def out(self) -> PathLike[str]: ...
    @property
    def records(self) -> PathLike[str]: ...
    @property
    def interrupts(self) -> int: ...
    @property
    def failure(self) -> str | None: ...

@final
class RecordReader(Iterator[Record]):
    def __new__(cls, path: str | PathLike[str]) -> RecordReader: ...
    def __iter__(self) -> RecordReader: ...
    def __next__(self) -> Record: ...

@final
class Record:
    """The record of one episode, from request to end. Its fields are those of ``docs/record.md``;
    :meth:`to_dict` has all of them. It can be pickled, and shared between threads."""

    @property
    def trajectory_id(self) -> str:
        """Unique among the trajectories of a job."""
    @property
    def job_id(self) -> str:
        """The job's name."""
    @property
    def group_id(self) -> int:
        """The group; without groups, the episode's own number."""
    @property
    def sample_index(self) -> int:
        """The number within the group, from 0."""
    @property
    def task_id(self) -> str:
        """The task's name; empty where there is none."""
    @property
    def environment(self) -> str:
        """The environment, as ``env`` named it."""
    @property
    def server(self) -> str:
        """Where it was played: a URL or the name of a worker; empty if it got none."""
    @property
    def seed(self) -> int | None:
        """The seed that was given to the environment at reset, if one was."""
    @property
    def reset_parameters(self) -> dict[str, Any] | None:
        """What was sent at reset; ``None`` for nothing."""
    @property
    def reset(self) -> Observed | None:
        """What the environment showed at reset; ``None`` if the episode did not get that far."""
    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps, in order."""
    @property
    def reward(self) -> float | None:
        """The sum of the rewards of reset and steps that are not missing; ``None`` if all are."""
    @property
    def reward_components(self) -> dict[str, float]:
        """Named parts of the reward, where a scorer gave them."""
    @property
    def metrics(self) -> dict[str, float]:
        """Numbers about the episode by name."""
    @property
    def end(self) -> End:
        """How it ended."""
    @property
    def content_hash(self) -> str:
        """32 hexadecimal digits over what was played, never when or where."""
    def to_dict(self) -> dict[str, Any]:
        """The whole record as plain Python objects, made anew each time."""
    def to_json(self) -> bytes:
        """The whole record as one line of JSON, without its newline."""
    @staticmethod
    def from_json(text: bytes) -> Record:
        """The record of a line. Raises ``ValueError`` if it is none."""

class Observed:
    """What the environment showed at the reset or after a step. Objects made of JSON are parsed when
    they are first asked for and kept; the bytes are as they were received."""

    @property
    def observation(self) -> Any:
        """The observation."""
    @property
    def observation_bytes(self) -> bytes:
        """Its JSON text."""
    @property
    def reward(self) -> float | None:
        """The reward; ``None`` where it is missing, ``null`` or no number. Missing is not zero."""
    @property
    def reward_bytes(self) -> bytes:
        """Its JSON text; empty where there was none."""
    @property
    def metadata(self) -> Any:
        """What the environment sent beside the observation; ``None`` for nothing."""
    @property
    def ended(self) -> str | None:
        """``terminated``, ``truncated`` or ``terminated (unmapped)``; ``None`` while the episode
        goes on."""

@final
class Step(Observed):
    """An action and what it led to."""

    @property
    def action(self) -> Any:
        """The action."""
    @property
    def action_bytes(self) -> bytes:
        """Its JSON text, as it was sent."""
    @property
    def environment_us(self) -> int:
        """Microseconds from the command leaving the scheduler to its answer reaching it."""
    @property
    def policy_us(self) -> int:
        """Microseconds from the turn being opened to its decision."""

@final
class End:
    """How an episode ended."""

    @property
    def kind(self) -> str:
        """``completed``, ``truncated``, ``failed``, ``cancelled``, ``stale`` or ``filtered``."""
    @property
    def cause(self) -> str:
        """Why, in one stable word or phrase."""
    @property
    def message(self) -> str:
        """For people, where it failed; empty otherwise."""
