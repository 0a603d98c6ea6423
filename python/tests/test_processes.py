"""Importing, forking and interrupting."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest
from conftest import forked, python

import envmill


def test_importing_starts_nothing() -> None:
    code = """
import os, signal
handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
descriptors = set(os.listdir("/proc/self/fd"))
import envmill
assert len(os.listdir("/proc/self/task")) == 1, os.listdir("/proc/self/task")
assert handlers == {number: signal.getsignal(number) for number in signal.valid_signals()}
assert descriptors == set(os.listdir("/proc/self/fd"))
"""
    python(code)


def test_a_run_leaves_no_thread_and_no_descriptor_behind() -> None:
    code = """
import os, envmill
envmill.run("native:cartpole", episodes=5)
threads, descriptors = os.listdir("/proc/self/task"), len(os.listdir("/proc/self/fd"))
assert len(threads) == 1, [open(f"/proc/self/task/{thread}/comm").read() for thread in threads]
for _ in range(3):
    envmill.run("native:cartpole", episodes=5)
assert len(os.listdir("/proc/self/fd")) == descriptors
"""
    python(code)


def test_the_allocator_stays_the_interpreters() -> None:
    library = Path(envmill._native.__file__).read_bytes()
    assert b"mi_malloc" not in library
    assert b"mimalloc" not in library


def small_job() -> tuple[int, list[str]]:
    run = envmill.run("native:cartpole", episodes=5, seed=1)
    return run.summary["episodes"]["completed"], sorted(record.content_hash for record in run.records)


def test_a_fork_after_the_import_plays() -> None:
    code = """
import os, envmill
pid = os.fork()
if pid == 0:
    run = envmill.run("native:cartpole", episodes=5)
    os._exit(run.summary["episodes"]["completed"])
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
"""
    python(code)


def test_a_fork_after_a_run_plays_the_same() -> None:
    here = small_job()
    assert forked(small_job) == repr(here)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.starmap(small_job, [()] * 4) == [here] * 4


def test_spawned_processes_play_and_take_records() -> None:
    run = envmill.run("native:cartpole", episodes=3)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        rewards = pool.map(reward_of, list(run.records))
    assert rewards == [record.reward for record in run.records]


def reward_of(record: envmill.Record) -> float | None:
    return record.reward


def test_a_fork_may_use_a_server_but_not_end_it() -> None:
    with envmill.serve("native:cartpole", port=0, block=False) as server:

        def play() -> int:
            run = envmill.run(server.url, episodes=3, sessions=1)
            return run.summary["episodes"]["completed"]

        assert forked(play) == "3"
        for use in (server.close, server.wait, server.__enter__):
            told = forked(use)
            assert told.startswith(f"RuntimeError: this server belongs to process {os.getpid()}"), told
            assert "envmill.serve()" in told
        context = multiprocessing.get_context("fork")
        with context.Pool(2) as pool:
            assert pool.map(play_on, [server.url] * 4) == [2] * 4
        # What was forked has ended, and taken nothing with it.
        assert play() == 3


def play_on(url: str) -> int:
    completed: int = envmill.run(url, episodes=2, sessions=1).summary["episodes"]["completed"]
    return completed


def test_a_server_is_closed_though_a_fork_lives_on() -> None:
    server = envmill.serve("native:cartpole", port=0, block=False)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    server.close()
    with pytest.raises(envmill.EnvmillError):
        envmill.run(server.url, episodes=1, connect_timeout_ms=500)
    os.close(writer)
    os.close(reader)
    os.waitpid(pid, 0)


def test_a_fork_has_its_own_place_in_the_records() -> None:
    run = envmill.run("native:cartpole", episodes=5)
    records = iter(run.records)
    first = next(records)
    told = forked(lambda: next(records))
    assert told.startswith("RuntimeError: this iterator over records belongs to process"), told
    assert "iter(run.records)" in told
    assert forked(lambda: [record.seed for record in run.records]) == repr(
        [record.seed for record in run.records]
    )
    assert forked(lambda: run.records[0].seed) == repr(first.seed)
    assert len(list(records)) == 4


def test_a_fork_does_not_take_the_records_away() -> None:
    run = envmill.run("native:cartpole", episodes=5)
    pid = os.fork()
    if pid == 0:
        del run
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(run.records) == 5


def interrupting(steps: int, times: int) -> envmill.Run:
    """A run that is interrupted `times`, the first time when so many steps were taken."""
    seen = threading.Event()

    def on_progress(progress: envmill.Progress) -> None:
        nonlocal times
        if progress.steps >= steps and times and not seen.is_set():
            times -= 1
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(envmill.Interrupted) as raised:
        envmill.run(
            "native:synthetic?step_ms=20&episode_steps=20",
            episodes=100_000,
            sessions=8,
            on_progress=on_progress,
        )
    assert isinstance(raised.value, KeyboardInterrupt)
    return raised.value.run


def test_an_interrupt_drains_and_gives_the_run() -> None:
    run = interrupting(steps=300, times=1)
    episodes = run.summary["episodes"]
    assert episodes["completed"] > 0
    assert episodes["completed"] + episodes["cancelled"] == 100_000
    causes = {record.end.cause for record in run.records if record.end.kind == "cancelled"}
    assert causes == {"drained"}
    assert len(run.records) == 100_000


def test_a_second_interrupt_cuts() -> None:
    def on_progress(progress: envmill.Progress) -> None:
        if progress.sessions:
            raise KeyboardInterrupt

    with pytest.raises(envmill.Interrupted) as raised:
        envmill.run(
            "native:synthetic?step_ms=3600000",
            episodes=4,
            step_timeout_ms=0,
            on_progress=on_progress,
        )
    assert raised.value.run.summary["episodes"]["cancelled"] == 4
    assert "0 of 4 episodes were played" in str(raised.value)


def test_handlers_of_the_program_are_heard_and_kept() -> None:
    def handler(number: int, frame: object) -> None:
        raise TimeoutError("long enough")

    before = signal.signal(signal.SIGALRM, handler)
    interrupt = signal.getsignal(signal.SIGINT)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(TimeoutError, match="long enough"):
            envmill.run("native:synthetic?step_ms=50", episodes=1_000_000)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert signal.signal(signal.SIGALRM, before) is handler
    assert signal.getsignal(signal.SIGINT) is interrupt
