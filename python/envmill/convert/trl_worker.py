"""A rollout worker for TRL's ``AsyncGRPOTrainer``, and how inference engines come to its weights."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import pathlib
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from envmill._client import Client
from envmill._errors import EnvmillError
from envmill._events import GroupRecord, JobEnd, Notice, Stale
from envmill._native import Record
from envmill._rollouts import Rollouts
from envmill.convert._play import Decide, abandon
from envmill.convert.trl import rollout_samples

LOOKS_S = 0.2
"""Seconds after which whoever waits for room looks whether the worker has been stopped."""

WEIGHTS_KEPT = 3
"""Folders of weights that are not removed: the newest, and those that may be loaded yet."""


class WeightFolders:
    """TRL's ``WeightTransferProtocol``: weights go to inference engines through folders. ::

        weights = WeightFolders("/shared/weights")
        worker = RolloutWorker(client, jobs, weights=weights)
        AsyncGRPOTrainer(rollout_worker=worker, weight_transfer=weights, …)

    It writes them; the worker announces the folder with the version, and the service has its
    environment's engines pause, load, and go on.

    :param folder: which both see, under the path that the inference engines see it under. The folders in it,
        ``weights-1``, ``weights-2`` and so on, are removed when they are old or the training ends.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = pathlib.Path(folder).absolute()
        self._numbers = itertools.count(1)
        self._written: list[pathlib.Path] = []

    @property
    def newest(self) -> pathlib.Path | None:
        """The folder with the last weights that were sent."""
        return self._written[-1] if self._written else None

    def init_weight_transfer(self) -> None:
        """Makes the folder."""
        self._folder.mkdir(parents=True, exist_ok=True)

    def pause(self) -> None:
        """Nothing: generations go on while the weights are written."""

    def send_weights(self, iterator: Iterator[tuple[str, Any]]) -> None:
        """Writes them."""
        save_file = importlib.import_module("safetensors.torch").save_file
        folder = self._folder / f"weights-{next(self._numbers)}"
        folder.mkdir(exist_ok=True)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in iterator}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        self._written.append(folder)
        while len(self._written) > WEIGHTS_KEPT:
            shutil.rmtree(self._written.pop(0), ignore_errors=True)

    def resume(self) -> None:
        """Nothing: the service has them loaded when the version is announced."""

    def destroy(self) -> None:
        """Removes them."""
        while self._written:
            shutil.rmtree(self._written.pop(), ignore_errors=True)


class RolloutWorker:
    """TRL's ``RolloutWorkerProtocol``: plays jobs of groups in threads of the trainer's process, and
    puts a ``RolloutSample`` for each of their sequences into ``rollout_buffer``. ::

        worker = RolloutWorker(
            client, [{"environment": "letters", "groups": 100, "group_rules": {"samples": 8}}], decide
        )
        AsyncGRPOTrainer(rollout_worker=worker, …)

    A group is acknowledged when the trainer has taken the last of its samples: what was not taken comes
    again, in another process, to whoever attaches to the job. While the buffer is full, nothing more is
    taken from the service, whose episodes pause when much waits.

    :param client: of the service that plays.
    :param jobs: jobs of groups, as :meth:`envmill.Client.rollouts` takes them, played one after
        another; an endless iterator for a trainer that says itself when it has enough. They are
        delivered by the group.
    :param decide: decides on turns, in a thread of its own; gives the arguments of
        :meth:`envmill.Policy.answer` that come after ``turns``. ``versions`` should say which weights
        were used, if they may have changed meanwhile. Without it the jobs have a policy of their own.
    :param weights: what the trainer has as its ``weight_transfer``. The policy of the jobs is then
        ``model``, and each version is announced with its weights.
    :param samples_max: so many samples at most wait for the trainer.
    :param name: the reward's name among the trainer's metrics.
    """

    def __init__(
        self,
        client: Client,
        jobs: Iterable[Mapping[str, Any]],
        decide: Decide | None = None,
        *,
        weights: WeightFolders | None = None,
        samples_max: int = 1024,
        name: str = "env",
    ) -> None:
        if decide is not None and weights is not None:
            raise ValueError("`decide` is the policy: leave it out, or `weights`")
        self.rollout_buffer: queue.Queue[Any] = _Buffer(samples_max)
        self.metrics_queue: queue.Queue[dict[str, Any]] = queue.Queue(4096)
        self._client = client
        self._jobs = iter(jobs)
        self._decide = decide
        self._name = name
        self._weights = weights
        self._version = 0
        # What the trainer has sent may be newer than what it has announced.
        self._folder = ""
        self._numbers = itertools.count()
        self._keeping = threading.Lock()
        self._played: _Played | None = None
        self._ended: list[_Played] = []
        self._thread: threading.Thread | None = None
        self._is_stopped = threading.Event()
        self._is_over = False
        self._error: BaseException | None = None
        self._sign_of_life = time.monotonic()

    def start(self) -> None:
        """Begins with the first job. Does nothing the second time."""
        if self._thread is None:
            self._sign_of_life = time.monotonic()
            self._thread = threading.Thread(target=self._work, name="envmill-rollouts", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Cancels what is unfinished, leaves what was not taken, and waits for both."""
        self._is_stopped.set()
        with self._keeping:
            played = self._played
        if played is not None:
            abandon(played.rollouts)
        if self._thread is not None:
            self._thread.join()
        for each in self._ended:
            with contextlib.suppress(EnvmillError):
                each.rollouts.close()

    def update_model_version(self, model_version: int) -> None:
        """Announces the trainer's new weights: a step within the first lineage. Older ones are
        ignored."""
        with self._keeping:
            played, is_newer = self._played, model_version > self._version
            if is_newer:
                self._version = model_version
                if self._weights is not None and self._weights.newest is not None:
                    self._folder = str(self._weights.newest)
            folder = self._folder
        if played is not None and is_newer:
            played.rollouts.publish_version(model_version, weights=folder)

    def check_health(self, stale_after_s: float) -> None:
        """Says why nothing more can come.

        :raises RuntimeError: if the worker has failed, if all jobs have ended, or if there was no sign
            of life (a record, a turn, news of the job) for so many seconds.
        """
        if self._error is not None:
            raise RuntimeError(f"the rollouts have failed: {self._error}") from self._error
        if self._is_over and self.rollout_buffer.empty():
            raise RuntimeError("all jobs have ended and the trainer wants more: give it more jobs")
        silent_s = time.monotonic() - self._sign_of_life
        if silent_s > stale_after_s and not self._is_over:
            raise RuntimeError(f"for {silent_s:.0f} s no episode has gone on: look at the environments")

    def _work(self) -> None:
        try:
            for job in self._jobs:
                if not self._play(job):
                    return
            self._is_over = True
        except BaseException as error:
            self._fail(error)

    def _play(self, job: Mapping[str, Any]) -> bool:
        """Plays one job until its end has come; False if the worker was stopped before."""
        delivery = {**job.get("delivery", {}), "order": "by_group"}
        wanted: dict[str, Any] = {**job, "delivery": delivery}
        if self._decide is not None:
            wanted["policy"] = "trainer"
        with self._keeping:
            if self._version:
                wanted["version"] = {"step": self._version}
            if self._weights is not None:
                wanted |= {"policy": "model", "weights": self._folder}
        played = _Played(self._client.rollouts(wanted))
        with self._keeping:
            self._played = played
            has_version, version = wanted.get("version", {}).get("step", 0), self._version
            folder = self._folder
        if self._is_stopped.is_set():
            abandon(played.rollouts)
            return False
        if version > has_version:
            played.rollouts.publish_version(version, weights=folder)
        if self._decide is not None:
            threading.Thread(
                target=self._answer, args=(played,), name="envmill-policy", daemon=True
            ).start()
        for members in self._groups(played):
            group = _Group(played, members, self._fail)
            rows = rollout_samples(
                [it for it in members if isinstance(it, Record)], next(self._numbers), name=self._name
            )
            if not self._put(group, rows):
                return False
        with self._keeping:
            self._played = None
            self._ended.append(played)
        self._ended = [each for each in self._ended if not each.close_if_taken()]
        return not self._is_stopped.is_set()

    def _groups(self, played: _Played) -> Iterator[list[Record | GroupRecord | Stale]]:
        """What is delivered, by the group, until the job's end."""
        members: list[Record | GroupRecord | Stale] = []
        for event in played.rollouts.events():
            self._sign_of_life = time.monotonic()
            if self._is_stopped.is_set():
                return
            if isinstance(event, JobEnd):
                played.rollouts.ack(event, wait=False)
                return
            if isinstance(event, Notice):
                continue
            members.append(event)
            if isinstance(event, GroupRecord):
                yield members
                members = []

    def _put(self, group: _Group, rows: list[Any]) -> bool:
        """Puts a group's samples where the trainer takes them; False if the worker was stopped
        first."""
        group.left = len(rows)
        if not rows:
            group.acknowledge()
        for row in rows:
            row.enqueued_at = time.time()
            while not self._is_stopped.is_set():
                self._sign_of_life = time.monotonic()
                with contextlib.suppress(queue.Full):
                    self.rollout_buffer.put((group, row), timeout=LOOKS_S)
                    break
        return not self._is_stopped.is_set()

    def _answer(self, played: _Played) -> None:
        assert self._decide is not None
        try:
            with self._client.policy(played.rollouts.job_id) as policy:
                for turns in policy:
                    self._sign_of_life = time.monotonic()
                    policy.answer(turns, **self._decide(turns))
        except BaseException as error:
            self._fail(error)
            abandon(played.rollouts)

    def _fail(self, error: BaseException) -> None:
        """Keeps what went wrong first, and not what it led to."""
        with self._keeping:
            if self._error is None and not self._is_stopped.is_set():
                self._error = error


class _Played:
    """A job, and how many of its groups the trainer has not wholly taken."""

    def __init__(self, rollouts: Rollouts) -> None:
        self.rollouts = rollouts
        self.groups_left = 0
        self.lock = threading.Lock()

    def close_if_taken(self) -> bool:
        with self.lock:
            is_taken = self.groups_left == 0
        if is_taken:
            self.rollouts.close()
        return is_taken


class _Group:
    """What was delivered of a group, and how many of its samples the trainer has not taken."""

    def __init__(
        self,
        played: _Played,
        delivered: list[Record | GroupRecord | Stale],
        fail: Callable[[BaseException], None],
    ) -> None:
        self.left = 0
        self._played = played
        self._fail = fail
        self._numbers = [it.delivery.number for it in delivered if it.delivery is not None]
        with played.lock:
            played.groups_left += 1

    def taken(self) -> None:
        with self._played.lock:
            self.left -= 1
            is_last = self.left == 0
        if is_last:
            self.acknowledge()

    def acknowledge(self) -> None:
        try:
            self._played.rollouts.ack(self._numbers, wait=False)
        except EnvmillError as error:
            # The trainer has its sample all the same, and is told when it asks for more.
            self._fail(error)
        with self._played.lock:
            self._played.groups_left -= 1


class _Buffer(queue.Queue[Any]):
    """Gives samples, and notes with the group of each that it was taken."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        group, sample = super().get(block, timeout)
        group.taken()
        return sample
