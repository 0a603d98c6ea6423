"""The process that starts the others: imports the environment once, then forks a worker whenever the
engine asks for one. It runs no environment itself, so it is always there to end what hangs.

When the engine goes, in whatever way, its socket ends, and so do all workers and what they started.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import threading
import traceback

from . import target, worker
from .channel import Channel


def main(socket_fd, bundle):
    Nursery(socket_fd, bundle).run()


class Nursery:
    def __init__(self, socket_fd, bundle):
        # Interrupts are the engine's business: it tells us what to do.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.channel = Channel(socket_fd)
        self.bundle, self.config = bundle, bundle["config"]
        self.poll = select.poll()
        self.poll.register(socket_fd, select.POLLIN)
        # By the descriptor that tells of its end: a worker's number and process id.
        self.workers = {}
        self.start = self.preload()

    def preload(self):
        """Imports what workers need, so that they share its memory and start at once. `"spawn"` where
        that would not be safe: threads do not survive a fork, and what they held stays held."""
        if self.config["start"] == "spawn":
            return "spawn"
        try:
            target.preload(self.config)
        except BaseException:  # noqa: BLE001
            # Each worker meets it again, and tells the engine.
            return "spawn"
        if threading.active_count() > 1 or len(os.listdir("/proc/self/task")) > 1:
            if self.config["start"] == "auto":
                return "spawn"
            print("envmill: forking although importing the environment started threads", file=sys.stderr)
        return "fork"

    def run(self):
        self.channel.send({"op": "nursery", "start": self.start})
        while True:
            for fd, _ in self.poll.poll():
                if fd in self.workers:
                    self.bury(fd)
                elif fd == self.channel.fileno() and not self.obey():
                    for _, pid in self.workers.values():
                        kill_group(pid)
                    return

    def obey(self):
        message, fds = self.channel.receive()
        if message is None:
            return False
        if message["op"] == "start":
            pid = self.fork(fds) if self.start == "fork" else self.spawn(fds)
            self.workers[os.pidfd_open(pid)] = message["number"], pid
            for fd in fds:
                os.close(fd)
            self.poll.register(next(reversed(self.workers)), select.POLLIN)
            self.channel.send({"op": "started", "number": message["number"], "pid": pid})
        elif message["op"] == "kill":
            for number, pid in self.workers.values():
                if number == message["number"]:
                    kill_group(pid)
        return True

    def fork(self, fds):
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid:
            set_group(pid)
            return pid
        status = 1
        try:
            set_group(0)
            pr_set_pdeathsig = 1
            ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.close(self.channel.fileno())
            for fd in self.workers:
                os.close(fd)
            reseed()
            worker.main(fds[0], self.config)
            status = 0
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def spawn(self, fds):
        # The same bundle, with another role.
        bundle_fd = os.memfd_create("envmill-bundle")
        data = memoryview(json.dumps({**self.bundle, "role": "worker"}).encode())
        while data:
            data = data[os.write(bundle_fd, data) :]
        child = subprocess.Popen(
            [sys.executable, "-c", self.config["bootstrap"], str(os.getpid()), str(bundle_fd)],
            pass_fds=[bundle_fd],
            process_group=0,
            stdin=fds[0],
        )
        os.close(bundle_fd)
        # Reaped by hand, like forked ones.
        child.returncode = 0
        return child.pid

    def bury(self, fd):
        number, pid = self.workers.pop(fd)
        self.poll.unregister(fd)
        os.close(fd)
        # Its children first: until it is reaped its group's number cannot be another's.
        kill_group(pid)
        _, status = os.waitpid(pid, 0)
        self.channel.send({"op": "ended", "number": number, "pid": pid, "how": how(status)})


def set_group(pid):
    try:
        os.setpgid(pid, pid)
    except OSError:
        pass


def kill_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass


def how(status):
    if os.WIFSIGNALED(status):
        return f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exited with status {os.waitstatus_to_exitcode(status)}"


def reseed():
    """What a fork copies and should not: `random` does this itself."""
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()
