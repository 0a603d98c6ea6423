"""Environments with plain methods: stepped on the process's own thread, or on a thread each.

On one thread a step costs no hand-over, and steps follow one another, which is right for what computes.
What waits (for a sandbox, a browser, another server) needs a thread for each session, as OpenEnv's
server gives it one. Which of the two a class is shows when its first environment is made and reset, or
else by its steps. A session stays on the thread that it began on.
"""

import asyncio
import os
import queue
import threading
import time
from collections import deque

from . import rpc
from .openenv_class import error_frame, factory_frame, observation_frame, state_frame
from .port import CLOSE, CLOSED, FRAME, OPEN, RESET, STATE, STEP

# Answers are handed over once they have gathered for so long, in seconds: what takes longer than this
# is not to be waited for by what was done before it.
FLUSH_S = 0.002

# A class waits, if making and resetting one, or a batch of steps, took so much time in which nothing was
# computed, and that was most of the time (seconds).
WAIT_MIN_S = 0.005


def serve(port, adapter):
    Server(port, adapter).run()


class Server:
    def __init__(self, port, adapter):
        self.port, self.adapter = port, adapter
        self.sessions = {}
        # Sessions whose close has been read and not come to its turn.
        self.closing = set()
        self.threads = adapter.config["threads"]
        if adapter.one_thread:
            self.threads = "inline"
        self.waits = self.threads == "session"
        self.decided = self.threads != "auto"
        self.queued = queued_s()
        # What sessions on threads of their own have answered, and the bell that says so.
        self.answered = queue.SimpleQueue()
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        port.watch(self.bell)

    def run(self):
        port, monotonic = self.port, time.monotonic
        queued = deque()
        while True:
            self.take(queued)
            if not queued:
                port.wait()
            began, computed = monotonic(), time.thread_time()
            flush_at = began + FLUSH_S
            while queued:
                identity, kind, text = queued.popleft()
                # A session that is to be closed is not stepped before.
                if kind == CLOSE or identity >> 32 not in self.closing:
                    self.handle(identity, kind, text)
                if monotonic() >= flush_at:
                    self.collect()
                    port.flush()
                    flush_at = monotonic() + FLUSH_S
                    # Steps take their time: has anything been closed meanwhile?
                    self.take(queued)
            self.collect()
            port.flush()
            if self.decided and not self.waits and self.threads == "auto":
                wall = monotonic() - began
                self.judge("steps", wall, wall - (time.thread_time() - computed))

    def take(self, queued):
        for request in self.port.take():
            if request[1] == CLOSE:
                self.closing.add(request[0] >> 32)
            queued.append(request)

    def collect(self):
        while not self.answered.empty():
            self.port.put(*self.answered.get_nowait())

    def handle(self, identity, kind, text):
        number = identity >> 32
        session = self.sessions.get(number)
        if kind == OPEN:
            self.sessions[number] = Session(self.adapter)
        elif session is None:
            # It has ended by itself; a close is confirmed all the same.
            if kind == CLOSE:
                self.closing.discard(number)
                self.port.put(identity, CLOSED, b"")
        else:
            if not session.is_bound:
                self.bind(session)
            if kind == CLOSE:
                del self.sessions[number]
                self.closing.discard(number)
            if session.thread is not None:
                session.thread.put((identity, kind, text))
            else:
                self.step_inline(number, session, identity, kind, text)

    def step_inline(self, number, session, identity, kind, text):
        state = self.port.state
        # So that the engine knows whom to blame if this never ends.
        state[0] = number + 1
        if self.decided:
            answer = session.act(kind, text)
        else:
            wall, cpu = time.monotonic(), time.thread_time()
            answer = session.act(kind, text)
            if kind == RESET:
                self.decided = True
                wall = time.monotonic() - wall
                self.judge("a reset", wall, wall - (time.thread_time() - cpu))
        state[0] = 0
        self.port.put(identity, *answer)
        if session.is_over:
            self.sessions.pop(number, None)

    def judge(self, what, wall, waited):
        """Looks at how long something took, and how much of it nothing was computed."""
        if waited < WAIT_MIN_S or waited < wall / 2:
            return
        # Time in which the thread could have gone on, had there been a core, is no waiting.
        before, self.queued = self.queued, queued_s()
        waited -= self.queued - before
        if waited >= WAIT_MIN_S and waited >= wall / 2:
            self.waits = True
            print(
                f"envmill: {what} of {self.adapter.name} waited {waited:.3f} s: sessions get threads of "
                "their own from now on (threads=session gives all of them one, threads=inline none)"
            )

    def bind(self, session):
        session.is_bound = True
        if self.waits:
            session.thread = queue.SimpleQueue()
            arguments = (session, session.thread, self.answered, self.bell)
            threading.Thread(target=live, args=arguments, daemon=True).start()


def queued_s():
    """For how long this thread has been kept waiting for a core, in seconds."""
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def live(session, requests, answered, bell):
    """A session's own thread."""
    while True:
        identity, kind, text = requests.get()
        answered.put((identity, *session.act(kind, text)))
        os.eventfd_write(bell, 1)
        if kind == CLOSE:
            return


class Session:
    """One environment, made when it is first needed."""

    __slots__ = ("adapter", "env", "is_bound", "is_over", "thread")

    def __init__(self, adapter):
        self.adapter, self.env, self.thread = adapter, None, None
        self.is_bound = self.is_over = False

    def act(self, kind, text):
        """(kind of answer, its text). Never raises."""
        adapter = self.adapter
        if kind == CLOSE:
            self.close()
            return CLOSED, b""
        if self.env is None:
            try:
                if self.is_over:
                    raise RuntimeError("the session is over")
                self.env = adapter.factory()
            except BaseException as error:  # noqa: BLE001
                self.is_over = True
                return FRAME, factory_frame(adapter, error)
        try:
            if kind == STEP:
                return FRAME, observation_frame(self.env.step(adapter.action(text)))
            if kind == RESET:
                return FRAME, observation_frame(self.env.reset(**adapter.reset_arguments(text)))
            if kind == STATE:
                return FRAME, state_frame(self.env.state)
            return FRAME, rpc.frame(self.tool(text))
        except BaseException as error:  # noqa: BLE001
            frame, lives = error_frame(error)
            if not lives:
                self.is_over = True
                self.close()
            return FRAME, frame

    def tool(self, text):
        answer = rpc.answer(self.adapter, self.env, text, self.step_async)
        try:
            answer.send(None)
        except StopIteration as done:
            return done.value
        # Nothing of a class without tools waits, but a task's method may.
        answer.close()
        return asyncio.run(rpc.answer(self.adapter, self.env, text, self.step_async))

    async def step_async(self, action):
        return self.env.step(action)

    def close(self):
        env, self.env = self.env, None
        if env is not None:
            try:
                env.close()
            except BaseException:  # noqa: BLE001
                # As on the server: an environment that cannot be closed is gone all the same.
                pass
