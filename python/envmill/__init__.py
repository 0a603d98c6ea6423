"""Envmill plays reinforcement-learning episodes, thousands at a time, and records each as a whole.

What there is to it:

* :func:`run` plays a job and gives its records::

      run = envmill.run("native:cartpole", episodes=100)
      run.summary["episodes"]["completed"]  # 100
      [record.reward for record in run.records]

* :class:`Client` asks a rollout service (``envmill serve``) for episodes and takes their records as
  they come, for a trainer;
* :func:`serve` puts an OpenEnv ``Environment`` class on a port, for those who write environments;
* the command ``envmill`` (also ``python -m envmill``), which is the same as the one made with Cargo.

Importing this package starts no thread and changes nothing in the process, which may fork afterwards
as it likes. What belongs to the engine and is used in a forked process raises ``RuntimeError``.
"""

from envmill._answers import Generated
from envmill._client import Client
from envmill._errors import EnvmillError, Interrupted, Refused, Unreachable
from envmill._events import GroupRecord, JobEnd, Notice, Stale
from envmill._native import (
    Attempt,
    Blob,
    Delivery,
    End,
    EpisodeStart,
    Generation,
    Observed,
    Record,
    Step,
    Timing,
    Turn,
    TurnSpan,
    Version,
    __version__,
)
from envmill._policy import Policy
from envmill._rollouts import Events, Rollouts
from envmill._run import Progress, Records, Run, run
from envmill._server import Server, serve

__all__ = [
    "Attempt",
    "Blob",
    "Client",
    "Delivery",
    "End",
    "EnvmillError",
    "EpisodeStart",
    "Events",
    "Generated",
    "Generation",
    "GroupRecord",
    "Interrupted",
    "JobEnd",
    "Notice",
    "Observed",
    "Policy",
    "Progress",
    "Record",
    "Records",
    "Refused",
    "Rollouts",
    "Run",
    "Server",
    "Stale",
    "Step",
    "Timing",
    "Turn",
    "TurnSpan",
    "Unreachable",
    "Version",
    "__version__",
    "run",
    "serve",
]
