"""Envmill plays reinforcement-learning episodes, thousands at a time, and records each as a whole.

Three functions are all there is to it:

* :func:`run` plays a job and gives its records::

      run = envmill.run("native:cartpole", episodes=100)
      run.summary["episodes"]["completed"]  # 100
      [record.reward for record in run.records]

* :func:`serve` puts an OpenEnv ``Environment`` class on a port, for those who write environments;
* the command ``envmill`` (also ``python -m envmill``), which is the same as the one made with Cargo.

Importing this package starts no thread and changes nothing in the process, which may fork afterwards
as it likes. What belongs to the engine and is used in a forked process raises ``RuntimeError``.
"""

from envmill._errors import EnvmillError, Interrupted
from envmill._native import End, Observed, Record, Step, __version__
from envmill._run import Progress, Records, Run, run
from envmill._server import Server, serve

__all__ = [
    "End",
    "EnvmillError",
    "Interrupted",
    "Observed",
    "Progress",
    "Record",
    "Records",
    "Run",
    "Server",
    "Step",
    "__version__",
    "run",
    "serve",
]
