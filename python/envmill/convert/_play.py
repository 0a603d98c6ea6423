"""A job played to its end, by the caller or by a policy of its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from envmill._client import Client
from envmill._errors import EnvmillError
from envmill._native import Record, Turn
from envmill._policy import Policy
from envmill._rollouts import Rollouts

Decide: TypeAlias = Callable[[list[Turn]], Mapping[str, Any]]
"""Decides on a batch of turns: gives the arguments of :meth:`envmill.Policy.answer` that come after
``turns``, above all ``actions``, ``prompt_token_ids``, ``token_ids`` and ``logprobs``."""


BATCH_MAX = 4096
"""So many turns at most are decided on together."""


def play(
    client: Client, job: Mapping[str, Any], decide: Decide | None, gather_us: int
) -> tuple[Rollouts, list[Record]]:
    """Plays a job whose policy is ``decide``, which is called in this thread; without it, the job's
    own. Gives its records, of which none is acknowledged, and its stream, which is to be closed. Where
    ``decide`` raises, the job is cancelled."""
    if decide is None:
        rollouts = client.rollouts(job)
        try:
            return rollouts, list(rollouts)
        except BaseException:
            abandon(rollouts)
            raise
    rollouts = client.rollouts({**job, "policy": "trainer"})
    try:
        with client.policy(rollouts.job_id, BATCH_MAX, BATCH_MAX, gather_us) as policy:
            taking = _Taking(rollouts, policy)
            try:
                for turns in policy:
                    policy.answer(turns, **decide(turns))
            except BaseException as error:
                if taking.error is None:
                    raise
                raise taking.error from error
            records = taking.records()
    except BaseException:
        abandon(rollouts)
        raise
    return rollouts, records


def abandon(rollouts: Rollouts) -> None:
    """Cancels the job as far as the service can be told, and leaves it."""
    with contextlib.suppress(EnvmillError):
        rollouts.cancel()
    with contextlib.suppress(EnvmillError):
        rollouts.close()


class _Taking:
    """Takes records while turns are answered: episodes pause when many wait."""

    def __init__(self, rollouts: Rollouts, policy: Policy) -> None:
        self.error: BaseException | None = None
        self._records: list[Record] = []
        self._rollouts, self._policy = rollouts, policy
        self._thread = threading.Thread(target=self._take, name="envmill-records", daemon=True)
        self._thread.start()

    def records(self) -> list[Record]:
        self._thread.join()
        if self.error is not None:
            raise self.error
        return self._records

    def _take(self) -> None:
        try:
            self._records.extend(self._rollouts)
        except BaseException as error:
            self.error = error
            # Whoever waits for turns is told.
            self._policy.close()
