# An environment whose action is an answer of its own class, with tools (FastMCP) beside it: they are listed and
# called by `mcp` messages only. The right answer, which ends the episode, is how much 2 and 5 are.
from typing import Any, Optional

from fastmcp import FastMCP
from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.types import Action, Observation, State


class AnswerAction(Action):
    answer: str


class AnswerObservation(Observation):
    text: str = ""


class AnswerEnv(MCPEnvironment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        mcp = FastMCP("answer")
        self.called = 0

        @mcp.tool
        def add(a: int, b: int) -> int:
            "Add two numbers"
            self.called += 1
            return a + b

        @mcp.tool
        def calls() -> int:
            "How often numbers were added in this session"
            return self.called

        @mcp.tool
        def boom() -> str:
            raise ValueError("tool boom")

        super().__init__(mcp)
        self._state = State(step_count=0)

    def reset(self, seed: Optional[int] = None, episode_id: Optional[str] = None, **kw: Any) -> AnswerObservation:
        self._state = State(episode_id=episode_id, step_count=0)
        return AnswerObservation(text="How much are 2 and 5?")

    def _step_impl(self, action: Action, timeout_s: Optional[float] = None, **kw: Any) -> AnswerObservation:
        assert isinstance(action, AnswerAction), action
        self._state.step_count += 1
        return AnswerObservation(done=True, reward=float("7" in action.answer))

    @property
    def state(self) -> State:
        return self._state


app = create_app(AnswerEnv, AnswerAction, AnswerObservation, env_name="answer", max_concurrent_envs=16)
