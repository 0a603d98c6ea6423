"""Environments with coroutines, or with a connection to their tools that must stay open: all sessions
of a process on one event loop, and what is not a coroutine on a thread for each session."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

from . import rpc
from .openenv_class import error_frame, factory_frame, observation_frame, state_frame
from .port import CLOSE, CLOSED, FRAME, OPEN, RESET, STATE, STEP, Gone, drain


def serve(port, adapter):
    asyncio.run(Server(port, adapter).run())


class Server:
    def __init__(self, port, adapter):
        self.port, self.adapter = port, adapter
        self.sessions = {}
        self.shared = ThreadPoolExecutor(1) if adapter.one_thread else None
        self.flushing = False

    async def run(self):
        self.loop, self.gone = asyncio.get_running_loop(), asyncio.Event()
        self.loop.add_reader(self.port.bell_in, self.on_bell)
        self.loop.add_reader(self.port.channel.fileno(), self.on_message)
        self.on_bell()
        await self.gone.wait()
        raise Gone

    def on_message(self):
        try:
            self.port.hear()
        except Gone:
            self.gone.set()

    def on_bell(self):
        drain(self.port.bell_in)
        for identity, kind, text in self.port.take():
            self.handle(identity, kind, text)

    def handle(self, identity, kind, text):
        number = identity >> 32
        session = self.sessions.get(number)
        if kind == OPEN:
            self.sessions[number] = Session(self.adapter, self.shared)
        elif session is None:
            if kind == CLOSE:
                self.put(identity, CLOSED, b"")
        else:
            if kind == CLOSE:
                del self.sessions[number]
            task = self.loop.create_task(self.act(session, number, identity, kind, text))
            session.tasks.add(task)
            task.add_done_callback(session.tasks.discard)

    async def act(self, session, number, identity, kind, text):
        if kind == CLOSE:
            # What it was at is not wanted any more.
            for task in session.tasks - {asyncio.current_task()}:
                task.cancel()
            await asyncio.gather(
                *(session.tasks - {asyncio.current_task()}), return_exceptions=True
            )
            await session.close()
            self.put(identity, CLOSED, b"")
            return
        frame = await session.act(kind, text)
        if session.is_over and self.sessions.get(number) is session:
            del self.sessions[number]
        self.put(identity, FRAME, frame)

    def put(self, identity, kind, text):
        self.port.put(identity, kind, text)
        if not self.flushing:
            # After everything that is ready now.
            self.flushing = True
            self.loop.call_soon(self.flush)

    def flush(self):
        self.flushing = False
        self.port.flush()


class Session:
    def __init__(self, adapter, shared):
        self.adapter, self.env, self.is_over = adapter, None, False
        self.executor, self.owned = shared, None
        self.stack = AsyncExitStack()
        self.tasks = set()

    async def in_thread(self, function, *arguments):
        if self.executor is None:
            self.executor = self.owned = ThreadPoolExecutor(1)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.executor, function, *arguments)

    async def make(self):
        try:
            self.env = await self.in_thread(self.adapter.factory)
            session = getattr(self.env, "mcp_session", None)
            if callable(session):
                await self.stack.enter_async_context(session())
        except Exception as error:  # noqa: BLE001
            self.is_over = True
            await self.close()
            return factory_frame(self.adapter, error)
        return None

    async def act(self, kind, text):
        if self.env is None:
            frame = await self.make()
            if frame is not None:
                return frame
        try:
            if kind == STEP:
                return observation_frame(await self.step(self.adapter.action(text)))
            if kind == RESET:
                return observation_frame(await self.reset(self.adapter.reset_arguments(text)))
            if kind == STATE:
                return state_frame(self.env.state)
            return rpc.frame(await rpc.answer(self.adapter, self.env, text, self.step))
        except Exception as error:  # noqa: BLE001
            frame, lives = error_frame(error)
            if not lives:
                self.is_over = True
                await self.close()
            return frame

    async def step(self, action):
        if self.adapter.steps_async:
            return await self.env.step_async(action)
        return await self.in_thread(self.env.step, action)

    async def reset(self, arguments):
        if self.adapter.resets_async:
            return await self.env.reset_async(**arguments)
        return await self.in_thread(lambda: self.env.reset(**arguments))

    async def close(self):
        env, self.env = self.env, None
        try:
            await self.stack.aclose()
        except Exception:  # noqa: BLE001
            pass
        if env is not None:
            try:
                await self.in_thread(env.close)
            except Exception:  # noqa: BLE001
                pass
        if self.owned is not None:
            self.owned.shutdown(wait=False)
