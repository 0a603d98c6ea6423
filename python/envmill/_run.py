"""Playing a job, and what comes of it."""

from __future__ import annotations

import itertools
import json
import operator
import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from envmill import _native
from envmill._environments import CLASS, COMMAND, EnvironmentClass, search_path, target_of
from envmill._errors import EnvmillError, Interrupted

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from envmill._settings import PathLike, Settings


@dataclass(frozen=True)
class Progress:
    """How a run stands."""

    episodes: int
    """Episodes that were asked for; 0 until the servers are there."""
    recorded: int
    """Episodes that have their record."""
    failed: int
    """Those of them that failed."""
    steps: int
    """Steps that were answered, in all attempts."""
    sessions: int
    """Sessions that hold a place on a server now."""
    elapsed_s: float
    """Seconds since the first command."""
    scoring: int = 0
    """Episodes that wait for their score."""


def run(
    env: str | EnvironmentClass | Iterable[str | EnvironmentClass] | None = None,
    *,
    episodes: int | None = None,
    sessions: int | None = None,
    policy: str | None = None,
    seed: int | None = None,
    out: PathLike | None = None,
    on_progress: Callable[[Progress], object] | None = None,
    config: PathLike | None = None,
    **settings: Unpack[Settings],
) -> Run:
    """Plays episodes and returns them with their figures.

    Further keyword arguments are the settings of ``envmill run`` with ``_`` for ``-``, such as
    ``max_steps=200``, ``groups=8, samples=4`` or ``format="parquet"``. One that is ``None`` is as good
    as not given. ``json`` changes nothing here. ``scorer="rules=rewards:score"`` (or a list of such) has a
    function that other processes can import, in processes of this interpreter, say what episodes were worth.

    :param env: what is played, ``native:cartpole`` unless told: a server's URL, ``native:NAME``,
        ``openenv-class:module:Class``, ``serve:`` before one of the latter two; or an OpenEnv
        ``Environment`` class that other processes can import, which is stepped in processes of this
        interpreter. Several form one pool.
    :param episodes: how many, 1000 unless told; each ends in exactly one record.
    :param sessions: the most at one time, 64 unless told.
    :param policy: who plays: ``random`` (unless told), ``constant:JSON``, ``replay:FILE``, or a language
        model: ``vllm:URL``, with ``agent=`` the file that says how.
    :param seed: episode ``i`` is reset with the seed ``seed + i``; 0 unless told.
    :param out: the directory for the records. Without it they are in a temporary one that is removed
        with the last of the :class:`Run` and its :attr:`~Run.records`.
    :param on_progress: called about ten times a second, and once at the end, by the thread that called
        ``run``. What it raises ends the run and comes out of it.
    :param config: a TOML file of settings; arguments win over it.

    The engine has threads of its own, and this one waits without holding the interpreter's lock. Ctrl-C
    lets the episodes under way finish and starts no more; a second one gives them up. Progress is shown
    where standard error is a terminal and nobody takes ``on_progress``; ``quiet`` says otherwise.

    :raises TypeError: for a setting that there is not; the message names the nearest.
    :raises ValueError: for a value that cannot be used; nothing was played.
    :raises EnvmillError: if the engine could not play the job, or not keep all of its records.
    :raises Interrupted: after Ctrl-C, with the run as ``.run``.
    """
    given: dict[str, Any] = dict(settings)
    environments = _targets(env)
    given.update(env=environments, episodes=episodes, sessions=sessions, policy=policy, seed=seed)
    scorers = given.get("scorer") or given.get("scorers")
    if scorers or any(CLASS in environment for environment in environments or ()):
        given["python"] = given.get("python") or sys.executable
        given["python_path"] = [*_listed(given.get("python_path")), *search_path()]
    quiet = given.pop("quiet", None)
    if quiet is None:
        quiet = on_progress is not None or not sys.stderr.isatty()
    if out is not None:
        given["out"] = out
    job = _native.Job(_json(given), None if config is None else os.fspath(config))
    directory = _Directory(job.out)
    tell = None if on_progress is None else _told(on_progress)
    played = job.run(os.fspath(directory.path), COMMAND, bool(quiet), tell)
    run = Run(played, directory)
    if played.interrupts:
        raise Interrupted(run)
    if played.failure is not None:
        error = EnvmillError(played.failure)
        error.run = run
        raise error
    return run


def _told(on_progress: Callable[[Progress], object]) -> Callable[..., object]:
    return lambda *counts: on_progress(Progress(*counts))


def _targets(
    env: str | EnvironmentClass | Iterable[str | EnvironmentClass] | None,
) -> list[str] | None:
    if env is None:
        return None
    if isinstance(env, str) or callable(env):
        return [target_of(env)]
    return [target_of(each) for each in env]


def _listed(value: PathLike | Sequence[PathLike] | None) -> list[PathLike]:
    if value is None:
        return []
    return [value] if isinstance(value, (str, os.PathLike)) else list(value)


def _json(settings: Mapping[str, Any]) -> str:
    """Settings as the engine reads them."""
    named = {}
    for name, value in settings.items():
        if name == "reset_parameters" and isinstance(value, Mapping):
            value = json.dumps(value, default=_plain, allow_nan=False)
        if value is not None:
            named[name.replace("_", "-")] = value
    return json.dumps(named, default=_plain, allow_nan=False)


def _plain(value: object) -> object:
    """What stands for a value that JSON does not know."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"run(): {value!r} cannot be a setting") from None


class _Directory:
    """An output directory. One that nobody named goes with the last that knows of it."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        if path is None:
            path = tempfile.mkdtemp(prefix="envmill-")
            weakref.finalize(self, _remove, path, os.getpid())
        self.path = Path(path)


def _remove(path: str, owner: int) -> None:
    # A forked process has this object, too, but not the directory.
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)


class Run:
    """A run that has come to its end."""

    summary: dict[str, Any]
    """The run in figures: what ``envmill run --json`` prints."""
    path: Path
    """The output directory, with ``job.json`` and whatever else the settings asked for."""
    records_path: Path
    """The file of records, described in ``docs/record.md``."""
    records: Records
    """The records, one for each requested episode, in the order in which they ended."""

    def __init__(self, played: _native.Played, directory: _Directory) -> None:
        self.summary = json.loads(played.summary)
        self.path = Path(played.out)
        self.records_path = Path(played.records)
        self.records = Records(self.records_path, directory)

    def __repr__(self) -> str:
        episodes = self.summary["episodes"]
        ends = ", ".join(
            f"{count} {end}"
            for end in ("completed", "truncated", "failed", "cancelled", "filtered")
            if (count := episodes[end])
        )
        return f"<envmill.Run of {episodes['requested']} episodes ({ends}) in {self.path}>"


class Records(Sequence[_native.Record]):
    """The records of a file, read when they are asked for: memory holds one line or batch at a time.

    Each ``for`` loop reads the file anew. ``len()`` reads it once. Indices are best used in ascending
    order, each of which then costs one record; an index below the last one begins anew.
    """

    def __init__(self, path: str | os.PathLike[str], keep: object = None) -> None:
        """``path`` names a file of JSON lines, Arrow or Parquet. ``keep`` is kept alive."""
        self._path = os.fspath(path)
        self._keep = keep
        self._count: int | None = None
        self._reader: Iterator[_native.Record] | None = None
        self._next = 0
        self._process = os.getpid()

    def __iter__(self) -> Iterator[_native.Record]:
        """Reads from the beginning.

        :raises EnvmillError: where the file cannot be read, or is damaged; what came before is good.
        """
        return _native.RecordReader(self._path)

    def __len__(self) -> int:
        if self._count is None:
            self._count = _native.count_records(self._path)
        return self._count

    @overload
    def __getitem__(self, index: int) -> _native.Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[_native.Record]: ...
    def __getitem__(self, index: int | slice) -> _native.Record | list[_native.Record]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step > 0:
                return list(itertools.islice(self, start, stop, step))
            return [self[number] for number in sorted(range(start, stop, step))][::-1]
        number = operator.index(index)
        if number < 0:
            number += len(self)
        if number < 0:
            raise IndexError("there is no such record")
        if self._reader is None or number < self._next or self._process != os.getpid():
            self._reader, self._next, self._process = iter(self), 0, os.getpid()
        for record in itertools.islice(self._reader, number - self._next, None):
            self._next = number + 1
            return record
        self._reader = None
        raise IndexError("there is no such record")

    def __repr__(self) -> str:
        return f"<envmill.Records in {self._path}>"
