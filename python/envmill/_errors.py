"""What the engine raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envmill._run import Run


class EnvmillError(Exception):
    """The engine could not do what it was told: a server that does not start, a directory that holds
    another job, a disk that is full. The message says what to do about it.

    Episodes that fail are no error but data: see ``run.summary["failures"]``.
    """

    run: Run | None = None
    """Where a run was played but not all of its records could be kept: the run with those that were."""


class Unreachable(EnvmillError):
    """The rollout service is not there, or was not for longer than one wants to wait. What it has
    accepted it goes on with when it is back: attach to the job again."""


class Refused(EnvmillError):
    """The rollout service refuses, and has done nothing of it. The message says why and what to do."""

    code: str
    """gRPC's word for the reason: ``invalid_argument``, ``not_found``, ``failed_precondition``,
    ``unauthenticated``, …"""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type[Refused], tuple[str, str]]:
        return Refused, (str(self), self.code)


class Interrupted(KeyboardInterrupt):
    """A run was interrupted (Ctrl-C). After one interrupt no more episodes were started and those under
    way have finished; after two, those under way were given up, too. Either way each requested episode
    has its record, the unplayed ones as ``cancelled``.
    """

    run: Run
    """The run, with all records so far."""

    def __init__(self, run: Run) -> None:
        episodes = run.summary["episodes"]
        played = episodes["completed"] + episodes["truncated"] + episodes["failed"]
        super().__init__(f"{played} of {episodes['requested']} episodes were played")
        self.run = run
