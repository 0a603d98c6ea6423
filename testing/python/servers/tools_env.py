# An environment of tools (FastMCP) with arguments of many shapes; an episode has five calls. With
# BARE=1 its action class is OpenEnv's own base class, as of environments that take other actions too.
import datetime, enum, os, uuid
from typing import Annotated, Any, Dict, List, Literal, Optional, Tuple, Union
from fastmcp import FastMCP
from pydantic import BaseModel, Field
from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.env_server.types import Action, Observation, State


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(BaseModel):
    x: int = Field(ge=0, le=9)
    label: Optional[str] = None


class Node(BaseModel):
    value: int
    next: Optional["Node"] = None


class ToolsEnv(MCPEnvironment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        mcp = FastMCP("tools")
        self.calls = 0

        @mcp.tool
        def add(a: int, b: int) -> int:
            return a + b

        @mcp.tool
        def nothing() -> None:
            return None

        @mcp.tool
        def choose(color: Color, mode: Literal["fast", "slow"], size: Literal[1, 2] = 1) -> str:
            return f"{color} {mode} {size}"

        @mcp.tool
        def place(point: Point, others: List[Point], named: Dict[str, Point]) -> str:
            return repr((point, others, named))

        @mcp.tool
        def walk(node: Node) -> str:
            return repr(node)

        @mcp.tool
        def move(
            square: Annotated[str, Field(pattern="^[a-h][1-8]$")],
            speed: Annotated[float, Field(gt=0, le=1)],
            path: Tuple[int, int],
            when: Optional[datetime.datetime] = None,
        ) -> str:
            return repr((square, speed, path, when))

        @mcp.tool
        def find(
            id: uuid.UUID,
            query: Union[str, int, None],
            limit: Annotated[int, Field(ge=1, le=100)] = 10,
            options: Optional[Dict[str, Any]] = None,
        ) -> List[str]:
            return [repr((id, query, limit, options))]

        super().__init__(mcp)

        @self.tool(mode="simulation")
        def hidden(word: str) -> str:
            return word

    def reset(self, seed=None, episode_id=None, **kwargs: Any) -> Observation:
        self.calls = 0
        return Observation()

    async def step_async(self, action, timeout_s=None, **kwargs: Any) -> Observation:
        observation = await super().step_async(action, timeout_s=timeout_s, **kwargs)
        if isinstance(action, CallToolAction):
            assert observation.error is None, observation.error
            self.calls += 1
            observation.done = self.calls >= 5
            observation.reward = 1.0
        return observation

    def _step_impl(self, action, timeout_s=None, **kwargs: Any) -> Observation:
        raise ValueError(f"not a call of a tool: {action!r}")

    @property
    def state(self):
        return State(step_count=self.calls)


app = create_app(
    ToolsEnv, Action if os.getenv("BARE") else CallToolAction, CallToolObservation,
    env_name="tools", max_concurrent_envs=int(os.getenv("MAXS", "8")))
