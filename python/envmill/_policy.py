"""A trainer that is the policy of its job."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, SupportsIndex, TypeAlias

from envmill import _native
from envmill._native import Turn, Version
from envmill._waiting import answer, rung

Action: TypeAlias = Mapping[str, Any] | str | bytes | BaseException
"""An action: a mapping, or the text of a JSON object. An exception is why there is none."""


class Policy(Iterator[list[Turn]], AsyncIterator[list[Turn]]):
    """The turns of one job whose ``policy`` is ``trainer``. Made by :meth:`Client.policy`.

    Iterating, with ``for`` or ``async for``, gives batches of turns, and ends with the job. Each turn is
    answered once with :meth:`answer`, in any order and from any thread; further batches come meanwhile.
    An answer to a turn that does not wait any more is ignored: its episode was cut, cancelled or lost its
    session, or the connection broke, after which what was not answered is shown again under a new id.

    Another policy for the same job replaces this one, which then raises :class:`Refused`.
    """

    def __init__(self, seat: _native.Seat) -> None:
        self._seat = seat
        self._is_over = False

    @property
    def version(self) -> Version | None:
        """The version that episodes are begun on, as was told last."""
        return self._seat.version

    def __iter__(self) -> Policy:
        self._seat.check()
        return self

    def __next__(self) -> list[Turn]:
        if not self._is_over:
            turns = self._seat.next()
            if turns is not None:
                return turns
            self._is_over = True
        raise StopIteration

    def __aiter__(self) -> Policy:
        self._seat.check()
        return self

    async def __anext__(self) -> list[Turn]:
        while not self._is_over:
            for turns in self._seat.next_if_there():
                if turns is not None:
                    return turns
                self._is_over = True
                raise StopAsyncIteration
            await rung(self._seat)
        raise StopAsyncIteration

    def answer(
        self,
        turns: Iterable[Turn | SupportsIndex],
        actions: Iterable[Action],
        *,
        versions: Version | Sequence[Version | None] | None = None,
        prompt_token_ids: Iterable[Any] | None = None,
        token_ids: Iterable[Any] | None = None,
        logprobs: Iterable[Any] | None = None,
    ) -> None:
        """Answers turns. Waits while many answers are on their way.

        :param turns: turns, or their ids.
        :param actions: as many: mappings, texts of JSON objects, or exceptions, with which the turn's
            episode fails.
        :param versions: the version that decided, one for all or one for each; the job's current one,
            unless told.
        :param prompt_token_ids: for each turn, what a language model was given.
        :param token_ids: for each turn, what it sampled.
        :param logprobs: for each turn, as many natural logarithms as it sampled tokens.

        :raises ValueError: if there are not as many of each.
        """
        self._answering(turns, actions, versions, prompt_token_ids, token_ids, logprobs).wait()

    async def aanswer(
        self,
        turns: Iterable[Turn | SupportsIndex],
        actions: Iterable[Action],
        *,
        versions: Version | Sequence[Version | None] | None = None,
        prompt_token_ids: Iterable[Any] | None = None,
        token_ids: Iterable[Any] | None = None,
        logprobs: Iterable[Any] | None = None,
    ) -> None:
        """:meth:`answer`, awaited."""
        await answer(
            self._answering(turns, actions, versions, prompt_token_ids, token_ids, logprobs)
        )

    def _answering(
        self,
        turns: Iterable[Turn | SupportsIndex],
        actions: Iterable[Action],
        versions: Version | Sequence[Version | None] | None,
        prompt_token_ids: Iterable[Any] | None,
        token_ids: Iterable[Any] | None,
        logprobs: Iterable[Any] | None,
    ) -> _native.Pending:
        named = [turn.id if isinstance(turn, Turn) else turn.__index__() for turn in turns]
        count = len(named)
        if versions is None or isinstance(versions, Version):
            versions = [versions] * count
        given: list[list[Any]] = [named]
        for name, values in (("actions", actions), ("versions", versions)):
            given.append(_as_many(name, values, count))
        if prompt_token_ids is token_ids is logprobs is None:
            given.append([None] * count)
        else:
            lists = [
                [[]] * count
                if values is None
                else [_listed(each) for each in _as_many(name, values, count)]
                for name, values in (
                    ("prompt_token_ids", prompt_token_ids),
                    ("token_ids", token_ids),
                    ("logprobs", logprobs),
                )
            ]
            given.append(list(zip(*lists, strict=True)))
        return self._seat.answer(list(zip(*given, strict=True)))

    def close(self) -> None:
        """Leaves the job's turns to another policy. Does nothing the second time."""
        self._seat.close()

    def __enter__(self) -> Policy:
        self._seat.check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Policy:
        self._seat.check()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _as_many(name: str, values: Iterable[Any], count: int) -> list[Any]:
    values = list(values)
    if len(values) != count:
        raise ValueError(f"{name}: {len(values)} for {count} turns")
    return values


def _listed(values: Any) -> list[Any]:
    """A list of numbers; arrays have a quick way to become one."""
    if values is None:
        return []
    listed: list[Any] = values.tolist() if hasattr(values, "tolist") else list(values)
    return listed
