"""A client of the rollout service."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from envmill import _native
from envmill._policy import Policy
from envmill._rollouts import Rollouts
from envmill._waiting import answer

if TYPE_CHECKING:
    from envmill._settings import PathLike

WINDOW_RECORDS = 1024
"""So many records at most have come and were not taken."""

WINDOW_BYTES = 64 << 20
"""So many bytes of records at most have come and were not taken."""

RECONNECT_S = 600.0
"""Seconds for which a broken connection is made again."""


class Client:
    """A connection to a rollout service, which ``envmill serve`` is. It is made when it is needed, and
    again when it breaks::

        with envmill.Client("http://127.0.0.1:7077") as client:
            job = {"name": "warm-up", "environment": "cartpole", "episodes": 100}
            with client.rollouts(job) as rollouts:
                for record in rollouts:
                    print(record.reward)
                    rollouts.ack(record, wait=False)

    All clients of a process share one thread, which is started with the first of them. A forked process
    makes a client of its own. Methods that wait have twins for event loops, named with an ``a`` in front.

    :param url: ``http://HOST:PORT``, or ``https://HOST:PORT`` for TLS.
    :param token: the bearer token, if the service asks for one.
    :param ca: a file of certificates (PEM) to trust instead of the public ones.

    :raises ValueError: for a URL, a token or certificates that cannot be used.
    """

    def __init__(self, url: str, token: str | None = None, ca: PathLike | None = None) -> None:
        self._url = url
        self._connection = _native.Connection(url, token, None if ca is None else os.fspath(ca))

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._url

    def rollouts(
        self,
        job: Mapping[str, Any],
        *,
        window_records: int = WINDOW_RECORDS,
        window_bytes: int = WINDOW_BYTES,
        reconnect_s: float = RECONNECT_S,
        shared_memory: int | None = None,
    ) -> Rollouts:
        """Submits a job and takes its records, as rank 0.

        :param job: the fields of ``SubmitJob`` in ``rollouts.proto``, such as ``environment``,
            ``episodes`` or ``groups`` with ``group_rules``, ``tasks``, ``limits``, ``deadlines``,
            ``delivery``. Words of enumerations are short: ``{"delivery": {"order": "by_group"}}``.
            JSON (``reset_parameters``, a task's ``parameters``, a constant action) is a mapping or its
            text. ``policy`` is ``"random"``, ``"trainer"`` or ``{"constant": {…}}``. A job with a
            ``name`` may be submitted again by whoever does not know whether it was: it is accepted once.
        :param window_records: so many records at most have come and were not taken.
        :param window_bytes: so many bytes of records at most, but for the last one.
        :param reconnect_s: for so many seconds a broken connection is made again, and a first one for a
            job that has a name.
        :param shared_memory: so many bytes of memory are shared with a service on this host, and records
            that fit into half of them come through it: their arrays are then views of what the service
            has written (:attr:`Record.in_place`). Records that are kept take room there; use
            :meth:`Record.copy` for those. Where none can be had they come as they do without. A dozen
            of the largest records are enough, and faster than memory that no cache holds.

        :raises ValueError: for a field that there is not, with the one that is most like it, and for a
            value that is none.
        :raises Refused: if the service does not accept the job.
        :raises Unreachable: if it is not there.
        """
        stream = self._connection.submit(
            job, window_records, window_bytes, reconnect_s, shared_memory
        ).wait()
        return Rollouts(stream)

    async def arollouts(
        self,
        job: Mapping[str, Any],
        *,
        window_records: int = WINDOW_RECORDS,
        window_bytes: int = WINDOW_BYTES,
        reconnect_s: float = RECONNECT_S,
        shared_memory: int | None = None,
    ) -> Rollouts:
        """:meth:`rollouts`, awaited."""
        pending = self._connection.submit(
            job, window_records, window_bytes, reconnect_s, shared_memory
        )
        return Rollouts(await answer(pending))

    def attach(
        self,
        job_id: str,
        rank: int = 0,
        cursor: int = 0,
        *,
        window_records: int = WINDOW_RECORDS,
        window_bytes: int = WINDOW_BYTES,
        reconnect_s: float = RECONNECT_S,
        shared_memory: int | None = None,
    ) -> Rollouts:
        """Comes (back) for the records of a job. Another stream of the same rank is replaced.

        :param job_id: the job, as :attr:`Rollouts.job_id` has it.
        :param rank: which of its consumers, from 0; others than 0 for jobs whose ``delivery.world`` is
            larger than 1.
        :param cursor: everything up to this number was received, and is not sent again now.

        :raises Refused: if there is no such job, or no such rank.
        :raises Unreachable: if the service was not there for ``reconnect_s`` seconds.
        """
        stream = self._connection.attach(
            job_id, rank, cursor, window_records, window_bytes, reconnect_s, shared_memory
        ).wait()
        return Rollouts(stream)

    async def aattach(
        self,
        job_id: str,
        rank: int = 0,
        cursor: int = 0,
        *,
        window_records: int = WINDOW_RECORDS,
        window_bytes: int = WINDOW_BYTES,
        reconnect_s: float = RECONNECT_S,
        shared_memory: int | None = None,
    ) -> Rollouts:
        """:meth:`attach`, awaited."""
        pending = self._connection.attach(
            job_id, rank, cursor, window_records, window_bytes, reconnect_s, shared_memory
        )
        return Rollouts(await answer(pending))

    def policy(
        self,
        job_id: str,
        min_batch: int = 1,
        max_batch: int = 0,
        max_wait_us: int = 0,
        *,
        reconnect_s: float = RECONNECT_S,
    ) -> Policy:
        """Answers the turns of a job whose ``policy`` is ``trainer``.

        :param job_id: the job, as :attr:`Rollouts.job_id` has it.
        :param min_batch: a batch waits until it has so many turns, for ``max_wait_us`` at most.
        :param max_batch: the largest batch; 4,096 unless told.
        :param max_wait_us: the longest that a turn waits for others, in microseconds; 5,000 unless told,
            where ``min_batch`` is larger than 1.

        :raises Refused: if there is no such job, or it has another policy.
        :raises Unreachable: if the service was not there for ``reconnect_s`` seconds.
        """
        seat = self._connection.policy(job_id, min_batch, max_batch, max_wait_us, reconnect_s).wait()
        return Policy(seat)

    async def apolicy(
        self,
        job_id: str,
        min_batch: int = 1,
        max_batch: int = 0,
        max_wait_us: int = 0,
        *,
        reconnect_s: float = RECONNECT_S,
    ) -> Policy:
        """:meth:`policy`, awaited."""
        pending = self._connection.policy(job_id, min_batch, max_batch, max_wait_us, reconnect_s)
        return Policy(await answer(pending))

    def status(self) -> dict[str, Any]:
        """What the engine is doing: the fields of ``StatusResponse`` in ``rollouts.proto``.

        :raises Unreachable: if it is not there.
        """
        status: dict[str, Any] = self._connection.status().wait()
        return status

    async def astatus(self) -> dict[str, Any]:
        """:meth:`status`, awaited."""
        status: dict[str, Any] = await answer(self._connection.status())
        return status

    def tasks(self, job_id: str, start: int = 0, count: int = 0) -> dict[str, Any]:
        """What came of the tasks of a job that samples them (its key ``sampling``): the fields of
        ``TasksResponse`` in ``rollouts.proto``.

        :param start: the place of a task in the job's set, from 0.
        :param count: how many from there on; at most, and for 0, 1,024.
        :raises Refused: if there is no such job, or it keeps no account of its tasks.
        :raises Unreachable: if the service is not there.
        """
        tasks: dict[str, Any] = self._connection.tasks(job_id, start, count).wait()
        return tasks

    async def atasks(self, job_id: str, start: int = 0, count: int = 0) -> dict[str, Any]:
        """:meth:`tasks`, awaited."""
        tasks: dict[str, Any] = await answer(self._connection.tasks(job_id, start, count))
        return tasks

    def environments(self) -> list[dict[str, Any]]:
        """The environments of the engine's configuration: the fields of ``Environment`` in
        ``rollouts.proto``, ``action_schema`` parsed.

        :raises Unreachable: if it is not there.
        """
        environments: list[dict[str, Any]] = self._connection.environments().wait()
        return environments

    async def aenvironments(self) -> list[dict[str, Any]]:
        """:meth:`environments`, awaited."""
        environments: list[dict[str, Any]] = await answer(self._connection.environments())
        return environments

    def drain(self) -> dict[str, Any]:
        """Has the engine take no more jobs and begin no more episodes; ``in_flight`` is how many are
        left to finish.

        :raises Unreachable: if it is not there.
        """
        left: dict[str, Any] = self._connection.drain().wait()
        return left

    async def adrain(self) -> dict[str, Any]:
        """:meth:`drain`, awaited."""
        left: dict[str, Any] = await answer(self._connection.drain())
        return left

    def __enter__(self) -> Client:
        self._connection.check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is closed: the connection goes with the last object that uses it."""

    async def __aenter__(self) -> Client:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """As :meth:`__exit__`."""

    def __repr__(self) -> str:
        return f"<envmill.Client of {self._url}>"
