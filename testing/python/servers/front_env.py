# An environment with everything that a front serves: tools (FastMCP) with a state of their session, and
# OpenEnv's Task API, of which one method is missing and some arguments fail. Constructing it fails while
# the file FAIL_FILE exists. With BARE=1 it has neither tools nor tasks.
import asyncio
import os
from typing import Any, Optional

from fastmcp import FastMCP
from openenv.core.env_server import Environment, create_app
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.env_server.types import Action, ConcurrencyConfig, Observation, State

TASKS = [{"id": index, "text": f"tâsk {index}"} for index in range(3)]


def constructed() -> None:
    if os.path.exists(os.environ.get("FAIL_FILE", "")):
        raise RuntimeError("factory boom")


class FrontEnv(MCPEnvironment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        constructed()
        mcp = FastMCP("front")
        self.calls = 0

        @mcp.tool
        def add(a: int, b: int) -> int:
            return a + b

        @mcp.tool
        def boom() -> str:
            raise ValueError("tool boom")

        @mcp.tool
        def count() -> int:
            self.calls += 1
            return self.calls

        @mcp.tool
        async def slow(s: float) -> str:
            await asyncio.sleep(s)
            return "slow done"

        super().__init__(mcp)
        self._state = State(episode_id=None, step_count=0)

    def reset(self, seed: Optional[int] = None, episode_id: Optional[str] = None, **kw: Any):
        self._state = State(episode_id=episode_id, step_count=0)
        return Observation(metadata={"status": "ready"})

    def _step_impl(self, action, timeout_s=None, **kw: Any):
        return Observation(metadata={"error": "unknown action"})

    @property
    def state(self):
        return self._state

    def list_splits(self):
        return ["train", "other", {"name": "held", "type": "test"}, 7]

    def list_tasks(self, split: str):
        if split == "boom":
            raise RuntimeError("no tasks here")
        return TASKS if split == "train" else []

    def num_tasks(self, split: str):
        return len(self.list_tasks(split))

    def get_task(self, split: str, index: int):
        return self.list_tasks(split)[index]


class BareEnv(Environment[Action, Observation, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        constructed()
        super().__init__()

    def reset(self, seed: Optional[int] = None, **kw: Any):
        return Observation()

    def step(self, action, timeout_s=None, **kw: Any):
        return Observation(reward=1.0)

    @property
    def state(self):
        return State()


timeout = os.getenv("SESSION_TIMEOUT")
concurrency = ConcurrencyConfig(
    max_concurrent_envs=int(os.getenv("MAXS", "4")),
    session_timeout=float(timeout) if timeout else None,
)
if os.getenv("BARE"):
    app = create_app(
        BareEnv, Action, Observation, env_name="front", concurrency_config=concurrency
    )
else:
    app = create_app(
        FrontEnv,
        CallToolAction,
        CallToolObservation,
        env_name="front",
        concurrency_config=concurrency,
    )
