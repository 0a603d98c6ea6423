"""The records of a job of the rollout service, as they come."""

from __future__ import annotations

import os
import logging
import operator
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, SupportsIndex, TypeAlias

from envmill import _native
from envmill._events import Event, GroupRecord, JobEnd, Notice, Stale, event
from envmill._native import Delivery, Record
from envmill._waiting import answer, rung

Delivered: TypeAlias = Record | GroupRecord | JobEnd | Stale | Delivery | SupportsIndex
"""What can be acknowledged: what was delivered, or its number."""

logger = logging.getLogger("envmill")


class Rollouts(Iterator[Record], AsyncIterator[Record]):
    """The records of one job, and everything that its trainer may say. Made by :meth:`Client.rollouts`
    and :meth:`Client.attach`.

    Iterating, with ``for`` or ``async for``, gives the records of its episodes and ends when the job has
    ended and all of them have come. They come until they are acknowledged with :meth:`ack`: to this
    object once, and again to whoever attaches to the job after it, marked as ``delivery.redelivered``.
    What else is delivered (records of groups, the job's end, episodes that became too old) is passed
    over and acknowledged on the way, the end with the last record; :meth:`events` gives it, too.

    A broken connection is made again without a word, for ``reconnect_s`` seconds. Any thread may use
    this object; a forked process may not. Whatever waits can be interrupted by Ctrl-C and lets other
    threads run meanwhile. Methods that wait have twins for event loops, named with an ``a`` in front;
    they wait without a thread, and can be cancelled. What was said is said, cancelled or not.

    Leaving a ``with`` statement leaves the job alone: it goes on, up to ``delivery.waiting_max`` records,
    and waits for a trainer to come back.
    """

    def __init__(self, stream: _native.Stream) -> None:
        self._stream = stream
        self._accepted: dict[str, Any] = stream.accepted
        self._job_id: str = stream.job_id
        self._in_batches = self._accepted["job"]["delivery"]["order"] == "batches"
        self._taking = threading.Lock()
        self._keeping = threading.Lock()
        self._unacknowledged: set[int] = set()
        self._end: JobEnd | None = None
        self._end_is_owed = False
        self._is_over = False
        self._is_settled = False
        self._said: list[_native.Pending] = []

    @property
    def job_id(self) -> str:
        """The job's id, by which it can be attached to."""
        return self._job_id

    @property
    def accepted(self) -> dict[str, Any]:
        """The job as the service has accepted it: ``job`` with everything that will be applied to it,
        ``existed`` if it was there before, ``last_number``, ``version``."""
        return self._accepted

    @property
    def progress(self) -> dict[str, Any] | None:
        """Where the job stands, as was told last: the fields of ``Progress`` in ``rollouts.proto``.
        ``None`` until it was told for the first time; about once a second while it changes."""
        return self._stream.progress

    @property
    def end(self) -> JobEnd | None:
        """The job's account, once it has come."""
        return self._end

    def __iter__(self) -> Rollouts:
        self._stream.check()
        return self

    def __next__(self) -> Record:
        self._check_order()
        with self._taking:
            while not self._is_over:
                record = self._passing(self._told(self._stream.next()))
                if record is not None:
                    return record
        raise StopIteration

    def __aiter__(self) -> Rollouts:
        self._stream.check()
        return self

    async def __anext__(self) -> Record:
        self._check_order()
        while not self._is_over:
            record = self._passing(await self._next_told(lambda: self._is_over))
            if record is not None:
                return record
        raise StopAsyncIteration

    def events(self) -> Events:
        """Everything that comes, in its order: an iterator, and an async iterator, of
        :class:`Record`, :class:`GroupRecord`, :class:`JobEnd`, :class:`Stale` and :class:`Notice`.

        Nothing is acknowledged for you, and it ends when everything was: after the notice ``settled``,
        which comes to rank 0. To be used instead of iterating over this object."""
        return Events(self)

    def ack(
        self,
        delivered: Delivered | Iterable[Delivered],
        checkpoint: str | None = None,
        *,
        wait: bool = True,
    ) -> None:
        """Acknowledges what was delivered, one or many: it is kept no longer for this trainer, nor sent
        to another one.

        :param delivered: records, or other things that were delivered, or their numbers.
        :param checkpoint: the checkpoint that the trainer will keep what it learned from them in, for
            jobs with ``retention`` ``until_durable``; that which is named next, unless told.
        :param wait: whether to wait until that is on the service's disk and can never be forgotten.
            Otherwise what goes wrong is raised by a later call, :meth:`close` at the latest.

        :raises Refused: for numbers that were not delivered, or a checkpoint that is out of order.
        """
        said = self._acknowledging(delivered, checkpoint)
        if wait:
            said.wait()
            self._check_said()
            return
        try:
            self._check_said()
        finally:
            self._said.append(said)

    async def aack(
        self, delivered: Delivered | Iterable[Delivered], checkpoint: str | None = None
    ) -> None:
        """:meth:`ack`, awaited."""
        await answer(self._acknowledging(delivered, checkpoint))

    def publish_version(
        self,
        step: int,
        lineage: int = 0,
        in_flight: str | None = None,
        weights: str | os.PathLike[str] = "",
    ) -> None:
        """Announces that the policy has a new version.

        :param step: grows within a lineage.
        :param lineage: how often the trainer has gone back to a checkpoint; a larger one begins
            anywhere, and ends all work of the older one as stale.
        :param in_flight: what becomes of episodes in flight: ``keep``, ``drain`` or ``resume``; as the
            job says, unless told.
        :param weights: for a job whose policy is ``model``: the folder that the environment's inference
            engines load the version's weights from. They sample nothing meanwhile. Without it they have
            them already, and are only told the version.

        :raises Refused: for a version that is not newer, and for weights where no model plays.
        """
        self._stream.announce(step, lineage, in_flight, os.fspath(weights)).wait()

    async def apublish_version(
        self,
        step: int,
        lineage: int = 0,
        in_flight: str | None = None,
        weights: str | os.PathLike[str] = "",
    ) -> None:
        """:meth:`publish_version`, awaited."""
        await answer(self._stream.announce(step, lineage, in_flight, os.fspath(weights)))

    def pause(self) -> None:
        """Lets the job's episodes go no further than their next turn."""
        self._stream.pause().wait()

    async def apause(self) -> None:
        """:meth:`pause`, awaited."""
        await answer(self._stream.pause())

    def resume(self) -> None:
        """Lets a paused job go on."""
        self._stream.resume().wait()

    async def aresume(self) -> None:
        """:meth:`resume`, awaited."""
        await answer(self._stream.resume())

    def drain(self) -> None:
        """Begins no more episodes of the job; those in flight are finished, and the rest recorded as
        cancelled."""
        self._stream.drain().wait()

    async def adrain(self) -> None:
        """:meth:`drain`, awaited."""
        await answer(self._stream.drain())

    def cancel(self) -> None:
        """Finishes nothing more of the job: what is unfinished is recorded as cancelled, and delivered."""
        self._stream.cancel().wait()

    async def acancel(self) -> None:
        """:meth:`cancel`, awaited."""
        await answer(self._stream.cancel())

    def durable(self, checkpoint: str) -> None:
        """Declares that a checkpoint is safe: what was acknowledged under it or an earlier one is kept
        no longer."""
        self._stream.durable(checkpoint).wait()

    async def adurable(self, checkpoint: str) -> None:
        """:meth:`durable`, awaited."""
        await answer(self._stream.durable(checkpoint))

    def rewind(self, checkpoint: str = "") -> None:
        """Says that the trainer is back at a checkpoint (empty: where the job began) and wants again what
        was acknowledged after it. What had come and was not acknowledged comes again, too (also where it
        is refused); iterating begins anew if it had ended. Announce a version of a new lineage afterwards.

        :raises Refused: for a checkpoint that was never named, or has been outdated by a durable one.
        """
        said = self._stream.rewind(checkpoint)
        self._begin_anew()
        said.wait()

    async def arewind(self, checkpoint: str = "") -> None:
        """:meth:`rewind`, awaited."""
        said = self._stream.rewind(checkpoint)
        self._begin_anew()
        await answer(said)

    def next_batch(self, index: int, groups: int) -> list[Record] | None:
        """This rank's share of a batch of a job whose ``delivery.order`` is ``batches``: whole groups.

        The next batch is made when every rank has asked for it and it has so many groups. Of an earlier
        one comes again what this rank has not acknowledged.

        :param index: which batch, from 0.
        :param groups: how many groups it has, over all ranks; the same for all of them, and a multiple of
            their number.
        :returns: the records, fewer where the job ends; ``None`` if there are no more batches.
        """
        with self._taking:
            self._stream.next_batch(index, groups).wait()
            share = _Share(index)
            while not share.is_whole:
                share.add(self._told(self._stream.next()), self._passing)
        return share.records

    async def anext_batch(self, index: int, groups: int) -> list[Record] | None:
        """:meth:`next_batch`, awaited. One at a time."""
        await answer(self._stream.next_batch(index, groups))
        share = _Share(index)
        while not share.is_whole:
            share.add(await self._next_told(), self._passing)
        return share.records

    def release_share(self, index: int, rank: int) -> None:
        """Says that a rank will not come back for its share of a batch: what it has not acknowledged goes
        into later batches."""
        self._stream.release_share(index, rank).wait()

    async def arelease_share(self, index: int, rank: int) -> None:
        """:meth:`release_share`, awaited."""
        await answer(self._stream.release_share(index, rank))

    def close(self) -> None:
        """Leaves the job alone, which goes on and keeps what was not acknowledged. Waits for
        acknowledgements that nobody has waited for. Does nothing the second time."""
        self._stream.check()
        said, self._said = self._said, []
        try:
            for each in said:
                each.wait()
        finally:
            self._stream.close()

    async def aclose(self) -> None:
        """:meth:`close`, awaited."""
        self._stream.check()
        said, self._said = self._said, []
        try:
            for each in said:
                await answer(each)
        finally:
            self._stream.close()

    def __enter__(self) -> Rollouts:
        self._stream.check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._stream.close()

    async def __aenter__(self) -> Rollouts:
        self._stream.check()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            await self.aclose()
        else:
            self._stream.close()

    def __repr__(self) -> str:
        return f"<envmill.Rollouts of the job {self._job_id}>"

    def _check_order(self) -> None:
        if self._in_batches:
            raise RuntimeError(
                f"the records of {self._job_id} go in batches: take them with next_batch(), or "
                "everything that comes with events()"
            )

    def _told(self, told: Record | tuple[str, Any, Delivery | None]) -> Event:
        """What has come, noted as not acknowledged."""
        it = told if isinstance(told, Record) else event(told)
        if isinstance(it, Notice):
            self._is_settled |= it.kind == "settled"
        else:
            assert it.delivery is not None
            with self._keeping:
                self._unacknowledged.add(it.delivery.number)
            if isinstance(it, JobEnd):
                self._end = it
        return it

    async def _next_told(self, is_over: Callable[[], bool] = lambda: False) -> Event | None:
        while (told := self._stream.next_if_there()) is None:
            await rung(self._stream)
            if is_over():
                return None
        return self._told(told)

    def _passing(self, it: Event | None) -> Record | None:
        """The record that it is. What is none is acknowledged, the job's end with the last record."""
        if isinstance(it, Record):
            return it
        if isinstance(it, JobEnd):
            self._end_is_owed = True
            # The order of batches has its own word for the end.
            self._is_over = not self._in_batches
            self._owe([])
        elif isinstance(it, (GroupRecord, Stale)):
            self._owe([it.delivery.number])
        elif isinstance(it, Notice):
            if it.kind == "settled":
                self._is_over = True
            elif it.kind == "warning":
                logger.warning("%s: %s", it.fields["kind"], it.fields["message"])
        return None

    def _owe(self, numbers: list[int], checkpoint: str = "") -> None:
        numbers = self._with_end(numbers)
        if numbers:
            self._said.append(self._stream.acknowledge(ranges(numbers), checkpoint))
            self._check_said()

    def _acknowledging(
        self, delivered: Delivered | Iterable[Delivered], checkpoint: str | None
    ) -> _native.Pending:
        numbers = self._with_end(numbers_of(delivered))
        return self._stream.acknowledge(ranges(numbers), checkpoint or "")

    def _with_end(self, numbers: list[int]) -> list[int]:
        """What is acknowledged now: also the job's end, if it was passed over and this is the rest."""
        with self._keeping:
            self._unacknowledged.difference_update(numbers)
            if self._end_is_owed and self._end is not None:
                number = self._end.delivery.number
                if self._unacknowledged <= {number}:
                    self._unacknowledged.clear()
                    self._end_is_owed = False
                    return [*numbers, number]
        return numbers

    def _begin_anew(self) -> None:
        with self._keeping:
            self._unacknowledged.clear()
            self._end_is_owed = False
        self._is_over = self._is_settled = False

    def _check_said(self) -> None:
        """Raises what became of acknowledgements that nobody waits for."""
        while self._said and self._said[0].is_there():
            self._said.pop(0).answer()


class Events(Iterator[Event], AsyncIterator[Event]):
    """Everything that a job's stream tells: see :meth:`Rollouts.events`."""

    def __init__(self, rollouts: Rollouts) -> None:
        self._rollouts = rollouts

    def __iter__(self) -> Events:
        return self

    def __next__(self) -> Event:
        rollouts = self._rollouts
        with rollouts._taking:
            if rollouts._is_settled:
                raise StopIteration
            return rollouts._told(rollouts._stream.next())

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        rollouts = self._rollouts
        if not rollouts._is_settled:
            it = await rollouts._next_told(lambda: rollouts._is_settled)
            if it is not None:
                return it
        raise StopAsyncIteration


class _Share:
    """A share of a batch that is coming."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._missing: int | None = None
        self.records: list[Record] | None = []

    @property
    def is_whole(self) -> bool:
        return self._missing == 0

    def add(self, it: Event | None, passing: Callable[[Event | None], Record | None]) -> None:
        if isinstance(it, Notice) and it.kind == "batch" and it.fields["index"] == self._index:
            # If it was asked for before, that has begun anew.
            self._missing, self.records = it.fields["deliveries"], []
            return
        if isinstance(it, Notice) and it.kind == "no_more_batches":
            self._missing, self.records = 0, None
            return
        record = passing(it)
        # What comes before it is left over from a call that was interrupted, and comes again.
        if self._missing is None or isinstance(it, Notice):
            return
        self._missing -= 1
        if record is not None and self.records is not None:
            self.records.append(record)


def numbers_of(delivered: Delivered | Iterable[Delivered]) -> list[int]:
    """The numbers of what was delivered."""
    if isinstance(delivered, (Record, GroupRecord, JobEnd, Stale)):
        if delivered.delivery is None:
            raise ValueError(f"{delivered!r} comes from a file and not from the rollout service")
        return [delivered.delivery.number]
    if isinstance(delivered, Delivery):
        return [delivered.number]
    if isinstance(delivered, (str, bytes)):
        raise TypeError(f"{delivered!r} was not delivered")
    if isinstance(delivered, Iterable):
        return [number for each in delivered for number in numbers_of(each)]
    return [operator.index(delivered)]


def ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """The numbers as ranges, from a first to a last one, both included."""
    found: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
