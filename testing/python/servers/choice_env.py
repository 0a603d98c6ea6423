# An environment that is strict about its actions, for policies that draw them from its schema: what
# the schema forbids is refused by pydantic, and what `legal_actions` leaves out raises.
from enum import Enum
from typing import Annotated, Any, List, Literal, Optional, Union

from openenv.core.env_server import Action, Environment, Observation, State, create_app
from pydantic import BaseModel, Field


class Direction(str, Enum):
    north = "north"
    east = "east"
    south = "south"
    west = "west"


class Walk(BaseModel):
    kind: Literal["walk"]
    paces: int = Field(ge=1, le=6)


class Rest(BaseModel):
    kind: Literal["rest"]
    share: float = Field(gt=0, lt=1)


class ChoiceAction(Action):
    pick: Direction
    move: Annotated[Union[Walk, Rest], Field(discriminator="kind")]
    marks: List[bool] = Field(min_length=1, max_length=3)
    note: Optional[Annotated[str, Field(pattern="^[a-z]+$", max_length=5)]] = None


class ChoiceObservation(Observation):
    step: int = 0
    legal_actions: List[Direction] = []


class ChoiceEnv(Environment[ChoiceAction, ChoiceObservation, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._state = State(step_count=0)

    def reset(self, seed: Optional[int] = None, **kw: Any) -> ChoiceObservation:
        self._state = State(step_count=0)
        return self._observation()

    def step(self, action: ChoiceAction, timeout_s=None, **kw: Any) -> ChoiceObservation:
        legal = self._legal()
        if legal and action.pick not in legal:
            raise ValueError(f"{action.pick} is not one of {legal}")
        self._state.step_count += 1
        return self._observation()

    def _observation(self) -> ChoiceObservation:
        return ChoiceObservation(step=self._state.step_count, legal_actions=self._legal())

    def _legal(self) -> List[Direction]:
        """Two of four at every other step; at the others nothing is said."""
        count = self._state.step_count
        return [] if count % 2 else [list(Direction)[(count // 2 + turn) % 4] for turn in (0, 1)]

    @property
    def state(self) -> State:
        return self._state


app = create_app(
    ChoiceEnv, ChoiceAction, ChoiceObservation, env_name="choice", max_concurrent_envs=64
)
