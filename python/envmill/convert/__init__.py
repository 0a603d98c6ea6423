"""Records in the forms that trainers take.

* :mod:`envmill.convert.trl`: what ``GRPOTrainer`` wants of a ``rollout_func``, and the samples of its
  asynchronous trainer; :mod:`envmill.convert.trl_worker` is a worker for the latter.
* :mod:`envmill.convert.openenv`: OpenEnv's ``TrainingTrace`` and ``VerifyResult``.
* :mod:`envmill.convert.atropos`: Atropos' ``ScoredDataGroup``.
* :mod:`envmill.convert.verl`: verl's ``AgentLoopOutput``.

Each needs NumPy. None of the packages is imported before one of its own objects is to be made, and
nothing here is imported by ``import envmill``. ``docs/trainers.md`` says which field becomes which, for
these and for trainers that have no converter.

What all of them have in common:

* Tokens are those that were sampled. Nothing is tokenised again: where a later prompt does not begin
  with what came before it, a new sequence begins (:func:`sequences`). A record whose tokens are not
  known raises :class:`TokensUnknown`.
* A reward that is missing never becomes 0. A form that has a word for it gets that; otherwise
  :class:`RewardMissing` is raised, unless you say what else to do.
* Only episodes that were completed or truncated count (:func:`is_usable`). The reward of others is
  missing, whatever their environment had given before.
"""

from envmill.convert._sequences import (
    Branched,
    CannotConvert,
    LogprobsUnknown,
    RewardMissing,
    Sequence,
    TokensUnknown,
    is_usable,
    reward,
    sequences,
)

__all__ = [
    "Branched",
    "CannotConvert",
    "LogprobsUnknown",
    "RewardMissing",
    "Sequence",
    "TokensUnknown",
    "is_usable",
    "reward",
    "sequences",
]
