"""A trainer that is the policy of its job."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, SupportsIndex, TypeAlias

from envmill import _answers, _native
from envmill._answers import Generated
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
        loss_mask: Iterable[Any] | None = None,
        parent: Iterable[int | None] | None = None,
        kind: str | Iterable[str | None] | None = None,
        generations: Iterable[Sequence[Generated] | None] | None = None,
    ) -> None:
        """Answers turns. Waits while many answers are on their way.

        What a language model generated for a turn goes into the episode's record. Where one call led to each
        action it is said in lists with an entry for each turn (an entry of ``None``: nothing is said of that
        turn); where there were several calls, or none, in ``generations``.

        :param turns: turns, or their ids.
        :param actions: as many: mappings, texts of JSON objects, or exceptions, with which the turn's
            episode fails.
        :param versions: the version that decided, one for all or one for each; the job's current one,
            unless told.
        :param prompt_token_ids: for each turn, what a language model was given.
        :param token_ids: for each turn, what it sampled. An empty list says that it sampled nothing for
            that prompt, ``None`` that what it sampled is unknown.
        :param logprobs: for each turn, as many natural logarithms as it sampled tokens.
        :param loss_mask: for each turn, as many of 1, for tokens to be trained on, and 0; all are, unless
            told.
        :param parent: for each turn, the index of the generation that its prompt continues, among those
            that were told of its episode so far, in the order of the record; found by the tokens, unless
            told.
        :param kind: what part it plays, one for all or one for each: ``agent`` (it led to the action),
            ``auxiliary`` (a side call) or ``discarded`` (thrown away); ``agent``, unless told.
        :param generations: instead of these lists: for each turn all that was generated for it, in order, as
            mappings of these names (:class:`Generated`).

        :raises ValueError: if there are not as many of each, or something of it makes no sense. No turn was
            answered then.
        """
        self._answering(
            turns,
            actions,
            versions,
            generations,
            prompt_token_ids=prompt_token_ids,
            token_ids=token_ids,
            logprobs=logprobs,
            loss_mask=loss_mask,
            parent=parent,
            kind=kind,
        ).wait()

    async def aanswer(
        self,
        turns: Iterable[Turn | SupportsIndex],
        actions: Iterable[Action],
        *,
        versions: Version | Sequence[Version | None] | None = None,
        prompt_token_ids: Iterable[Any] | None = None,
        token_ids: Iterable[Any] | None = None,
        logprobs: Iterable[Any] | None = None,
        loss_mask: Iterable[Any] | None = None,
        parent: Iterable[int | None] | None = None,
        kind: str | Iterable[str | None] | None = None,
        generations: Iterable[Sequence[Generated] | None] | None = None,
    ) -> None:
        """:meth:`answer`, awaited."""
        answering = self._answering(
            turns,
            actions,
            versions,
            generations,
            prompt_token_ids=prompt_token_ids,
            token_ids=token_ids,
            logprobs=logprobs,
            loss_mask=loss_mask,
            parent=parent,
            kind=kind,
        )
        await answer(answering)

    def _answering(
        self,
        turns: Iterable[Turn | SupportsIndex],
        actions: Iterable[Action],
        versions: Version | Sequence[Version | None] | None,
        generations: Iterable[Sequence[Generated] | None] | None,
        **columns: Any,
    ) -> _native.Pending:
        named = [turn.id if isinstance(turn, Turn) else turn.__index__() for turn in turns]
        count = len(named)
        if versions is None or isinstance(versions, Version):
            versions = [versions] * count
        if isinstance(columns["kind"], str):
            columns["kind"] = [columns["kind"]] * count
        given = [name for name, values in columns.items() if values is not None]
        if generations is None:
            generated = _answers.columns(named, columns)
        elif given:
            raise ValueError(f"either generations or {', '.join(given)}")
        else:
            generated = _answers.several(named, generations)
        actions = _answers.as_many("actions", actions, count)
        versions = _answers.as_many("versions", versions, count)
        return self._seat.answer(list(zip(named, actions, versions, generated, strict=True)))

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
