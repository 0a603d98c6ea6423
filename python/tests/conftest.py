"""What the tests of the package share. They run against the installed package, real environments and
real processes, and wait for conditions: no test asserts how long anything takes."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SERVERS = REPOSITORY / "testing" / "python" / "servers"
STUBS = Path(__file__).resolve().parent / "stubs"

STDERR = os.fdopen(os.dup(2), "w")
"""Where the watchdog tells who hangs: standard error, before pytest takes it."""

BOUND_S = 300
"""How long a test may take before it counts as hanging."""

# `bench_env` and, before it, what stands in for the toolkit of OpenEnv's web pages: importing that is
# four fifths of the start of every process that steps environments. Processes of the engine get these.
sys.path[:0] = [str(STUBS), str(SERVERS)]

# Whoever has started the tests may ignore it, as a shell does for what it runs in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _watchdog() -> Iterator[None]:
    faulthandler.dump_traceback_later(BOUND_S, exit=True, file=STDERR)
    yield
    faulthandler.cancel_dump_traceback_later()


def python(code: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a program in an interpreter of its own."""
    finished = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        cwd=REPOSITORY,
    )
    assert not check or finished.returncode == 0, finished.stderr
    return finished


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command `envmill`, as it is installed beside this interpreter."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("envmill")), *arguments],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
    )


def until(condition: Callable[[], bool]) -> None:
    """Waits for a condition, half as long as the watchdog: a test that fails still tidies up."""
    give_up = time.monotonic() + BOUND_S / 2
    while not condition():
        assert time.monotonic() < give_up, "what the test waits for has not come"
        time.sleep(0.02)


def descendants(pid: int) -> set[int]:
    """A process's children and theirs."""
    found = [pid]
    for each in found:
        # Each belongs to the thread that has started it.
        for thread in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                found += [int(child) for child in thread.read_text().split()]
            except OSError:
                continue
    return set(found[1:])


def is_running(pid: int) -> bool:
    """Whether there is such a process, and not only what is left of it."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def forked(work: Callable[[], object]) -> str:
    """What `work` returns, or raises, in a forked process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            told = repr(work())
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(writer, told.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    return told
