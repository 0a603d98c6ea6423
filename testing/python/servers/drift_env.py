# Walks that follow from the reset's seed, and what makes a recording of them come out differently:
# DRIFT=seed (the seed is dropped), step (a step draws from something else), reward (rewards are
# others), raise (the third step fails) or schema (the observation has another field).
import os
import random
from typing import Any, Optional

from openenv.core.env_server import Action, Environment, Observation, State, create_app

DRIFT = os.getenv("DRIFT", "")


class Move(Action):
    by: int = 1


class Place(Observation):
    at: float = 0.0


class OtherPlace(Place):
    height: float = 0.0


SHOWN = OtherPlace if DRIFT == "schema" else Place


class Walk(Environment[Move, Place, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._random = random.Random()
        self._at = 0.0
        self._steps = 0

    def reset(self, seed: Optional[int] = None, **_: Any) -> Place:
        self._random = random.Random(None if DRIFT == "seed" else seed)
        self._steps = 0
        self._at = self._random.random()
        return SHOWN(at=self._at)

    def step(self, action: Move, **_: Any) -> Place:
        self._steps += 1
        if DRIFT == "raise" and self._steps == 3:
            raise RuntimeError("there is no third step")
        drawn = random.Random() if DRIFT == "step" and self._steps == 2 else self._random
        self._at += action.by * drawn.random()
        reward = self._at + (1 if DRIFT == "reward" else 0)
        return SHOWN(at=self._at, reward=reward, done=self._steps >= 5)

    @property
    def state(self) -> State:
        return State(step_count=self._steps)


app = create_app(Walk, Move, SHOWN, env_name="drift", max_concurrent_envs=64)
