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
