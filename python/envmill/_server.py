"""Environments on a port.

The server is a process of its own rather than a thread of this one. So it goes on while this process
computes, holds its lock or sits in a debugger; a crash of either leaves the other as it is; and this
process may fork, as ``multiprocessing`` does: what is forked would otherwise hold on to the listening
socket and to those of the environments' processes. It ends when this process does, in whatever way:
it watches a descriptor of the process itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import weakref
from types import TracebackType
from typing import Literal, overload

from envmill._environments import CLASS, COMMAND, EnvironmentClass, search_path, target_of
from envmill._errors import EnvmillError

GRACE_S = 10.0
"""Seconds that a server may take to end once it was told to."""


@overload
def serve(
    environment: str | EnvironmentClass,
    *,
    host: str = ...,
    port: int = ...,
    processes: int | None = ...,
    max_sessions: int | None = ...,
    block: Literal[True] = ...,
) -> None: ...
@overload
def serve(
    environment: str | EnvironmentClass,
    *,
    host: str = ...,
    port: int = ...,
    processes: int | None = ...,
    max_sessions: int | None = ...,
    block: Literal[False],
) -> Server: ...
def serve(
    environment: str | EnvironmentClass,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    processes: int | None = None,
    max_sessions: int | None = None,
    block: bool = True,
) -> Server | None:
    """Serves an environment over the OpenEnv protocol, as ``envmill env serve`` does.

    Stock OpenEnv clients can play on it, and so can :func:`run` by its URL. Each session is an instance
    of the environment; instances share ``processes`` worker processes, so that steps of different
    sessions run at the same time.

    :param environment: an OpenEnv ``Environment`` class that other processes can import, or a target
        as the command takes it (``native:cartpole``, ``openenv-class:module:Class``).
    :param host: a loopback address: the server asks nobody who they are.
    :param port: the port; 0 for any free one.
    :param processes: worker processes for a class; one for each core unless told.
    :param max_sessions: the most sessions at one time; 65,536 unless told, and one for each process
        where the class does not say ``SUPPORTS_CONCURRENT_SESSIONS``.
    :param block: whether to wait until the server ends or Ctrl-C ends it. Otherwise it goes on beside
        this process until the returned :class:`Server` is closed or this process ends.

    :raises EnvmillError: if it cannot serve (the port is taken, the class cannot be imported).
    """
    server = Server(environment, host=host, port=port, processes=processes, max_sessions=max_sessions)
    if not block:
        return server
    with server:
        print(f"envmill: {server.target} at {server.url}; Ctrl-C ends it", file=sys.stderr)
        with contextlib.suppress(KeyboardInterrupt):
            server.wait()
    return None


class Server:
    """A server in a process of its own, made by :func:`serve`. It ends with :meth:`close`, with the
    ``with`` statement, with this object and with this process, whichever comes first."""

    url: str
    """Where it is, as ``http://127.0.0.1:8000``. Also of use to forked processes."""
    target: str
    """What it serves, as the command writes it."""

    def __init__(
        self,
        environment: str | EnvironmentClass,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        processes: int | None = None,
        max_sessions: int | None = None,
    ) -> None:
        self.target = target_of(environment)
        command = [*COMMAND, "env", "serve", self.target, "--host", host, "--port", str(port)]
        command += ["--started-by", str(os.getpid())]
        if self.target.startswith(CLASS):
            for directory in search_path():
                command += ["--python-path", directory]
        if processes is not None:
            command += ["--processes", str(processes)]
        if max_sessions is not None:
            command += ["--max-sessions", str(max_sessions)]
        self._owner = os.getpid()
        # A session of its own: the Ctrl-C of a terminal is for this process to deal with.
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
        )
        self._end = weakref.finalize(self, _end, self._process, self._owner)
        try:
            assert self._process.stdout is not None
            told = self._process.stdout.readline().decode(errors="replace").strip()
        except BaseException:
            self._end()
            raise
        if not told.startswith("http"):
            self._end()
            why = told.removeprefix("error: ") or "its last words are on standard error"
            raise EnvmillError(f"cannot serve {self.target}: {why}")
        self.url = told

    def wait(self, timeout_s: float | None = None) -> None:
        """Waits until the server has ended.

        :raises EnvmillError: if it ended other than by being told to.
        :raises TimeoutError: if it has not ended after ``timeout_s`` seconds.
        """
        self._check()
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.url} has not ended after {timeout_s} s") from None
        if status not in (0, -signal.SIGTERM, -signal.SIGKILL):
            raise EnvmillError(
                f"the server of {self.target} ended with status {status}; what it said is on standard "
                "error"
            )

    def close(self) -> None:
        """Ends the server and waits until it is gone: sessions are closed, also those in mid-step.
        Does nothing the second time."""
        self._check()
        self._end()

    def _check(self) -> None:
        if os.getpid() != self._owner:
            raise RuntimeError(
                f"this server belongs to process {self._owner}, which forked this one: end it there, "
                f"or start another one here with envmill.serve(). Its url, {self.url}, can be used in "
                "both"
            )

    def __enter__(self) -> Server:
        self._check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<envmill.Server of {self.target} at {self.url}>"


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    # A forked process has this object, too, but not the server.
    if os.getpid() != owner:
        return
    process.terminate()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        if process.stdout is not None:
            process.stdout.close()
