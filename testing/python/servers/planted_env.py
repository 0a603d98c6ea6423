# A seeded walk to a goal, once sound and once with each of many faults: /sound, /memory and so on are servers
# of their own within this one. With PLANT=NAME the server is that one alone. What each fault is, stands where it
# is done. MAXS is how many sessions each holds (8).
import os
import random
import time
from typing import Any, Optional

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from openenv.core.env_server import Action, Environment, Observation, State, create_app
from pydantic import Field

GOAL = 5
SHARED = {"at": 0, "steps": 0}
KEPT: list = []


class WalkAction(Action):
    move: int = Field(ge=-1, le=1)


class WalkObservation(Observation):
    at: int = 0
    hint: float = 0.0
    seen: Any = None


class WalkState(State):
    at: int = 0


class WalkEnv(Environment[WalkAction, WalkObservation, WalkState]):
    SUPPORTS_CONCURRENT_SESSIONS = True
    PLANT = "sound"

    def __init__(self) -> None:
        super().__init__()
        self._random = random.Random(0)
        self._state = WalkState(step_count=0)
        self._over = False
        self._carried = 0
        if self.PLANT == "session-memory":  # each session is kept for ever
            KEPT.append(bytearray(os.urandom(1) * 400_000))

    def reset(self, seed: Optional[int] = None, **kw: Any) -> WalkObservation:
        if self.PLANT == "seed-dropped":  # random whatever the seed
            seed = random.SystemRandom().randrange(1 << 30)
        if self.PLANT == "seed-without-effect":
            seed = 0
        if self.PLANT == "global-random":  # one generator for all sessions
            random.seed(seed)
            self._random = random
        else:
            self._random = random.Random(seed)
        if self.PLANT == "memory":  # something of each episode is kept for ever
            KEPT.append(bytearray(os.urandom(1) * 200_000))
        if self.PLANT == "reset-raises":
            raise RuntimeError("planted")
        over = self._over
        self._over = False
        at = self._random.randint(-2, 2)
        self._draw = random.Random(seed).random()
        if self.PLANT == "reuse":  # what was carried is not put down
            at += self._carried
        SHARED["at"], SHARED["steps"] = at, 0
        self._state = WalkState(step_count=0, at=at)
        observation = self._seen()
        if self.PLANT == "done-not-cleared":
            observation.done = over
            self._over = over
        if self.PLANT == "done-on-reset":
            observation.done = True
        return observation

    def step(self, action: WalkAction, timeout_s=None, **kw: Any) -> WalkObservation:
        self._state.step_count += 1
        if self.PLANT == "raises" and action.move == 1:
            raise ValueError("planted")
        if self.PLANT == "shared":  # one world for all sessions
            SHARED["at"] += action.move
            SHARED["steps"] += 1
            self._state.at, self._state.step_count = SHARED["at"], SHARED["steps"]
        else:
            self._state.at += action.move
        self._carried += 1
        if self.PLANT == "stop" and self._state.step_count == 3:  # never answers
            raise StopIteration
        was_over = self._over
        self._over = abs(self._state.at) >= GOAL or self._state.step_count >= 30
        observation = self._seen()
        observation.reward = 1.0 if self._state.at >= GOAL else -self._random.random() / 10
        if was_over:
            observation.reward = 0.0
        observation.done = self._over
        match self.PLANT:
            case "continues":
                observation.done = self._over and not was_over
            case "reward-after" if was_over:
                observation.reward = 1.0
            case "endless":
                observation.done = False
                observation.reward = 0.0
            case "tail":  # most walks end at once, some never
                observation.done = self._state.step_count > 2 and self._draw < 0.8
            case "farmed":
                observation.done = False
                observation.reward = 0.5 if action.move == 0 else 0.0
            case "reward-constant":
                observation.reward = 1.0
            case "reward-null":
                observation.reward = None
            case "reward-range":
                observation.reward = 1e9 if self._random.random() < 0.05 else 0.1
            case "zero-variance":
                observation.reward = float(self._over and self._random.random() > 2)
            case "partial":
                won = 1.0 if self._state.at >= GOAL else 0.25 * (self._state.at > 0)
                observation.reward = won if self._over else 0.0
        return observation

    def _seen(self) -> WalkObservation:
        observation = WalkObservation(at=self._state.at, hint=self._random.random())
        if self.PLANT == "volatile":
            observation.seen = {"request_id": os.urandom(8).hex(), "at_time": time.time()}
        if self.PLANT == "schema-type":  # the schema says int
            hint = observation.hint
            observation = WalkObservation.model_construct(at="here", hint=hint, metadata={})
        return observation

    @property
    def state(self) -> WalkState:
        if self.PLANT == "shared":
            self._state.at, self._state.step_count = SHARED["at"], SHARED["steps"]
        return self._state


PLANTS = [
    "sound", "session-memory", "seed-dropped", "seed-without-effect", "global-random", "memory",
    "reset-raises", "reuse", "done-not-cleared", "done-on-reset", "raises", "shared", "stop",
    "continues", "reward-after", "endless", "tail", "farmed", "reward-constant", "reward-null",
    "reward-range", "zero-variance", "partial", "volatile", "schema-type", "loose-schema", "no-health",
    "no-schema", "production-open",
]


def served(plant: str):
    app = create_app(
        type("WalkEnv", (WalkEnv,), {"PLANT": plant}),
        WalkAction,
        WalkObservation,
        env_name="planted",
        max_concurrent_envs=int(os.getenv("MAXS", "8")),
    )

    @app.middleware("http")
    async def planted(request, call_next):
        path = "/" + request.url.path.rsplit("/", 1)[-1]
        match plant, path:
            case "no-health", "/health":
                return JSONResponse({"no": "health"}, status_code=500)
            case "no-schema", "/schema":
                return JSONResponse({"state": {}})
            case "production-open", "/reset" | "/step" | "/state":
                return JSONResponse({"open": True})
            case "loose-schema", "/schema":  # documents a move that is refused
                action = WalkAction.model_json_schema()
                action["properties"]["move"] = {"type": "integer", "minimum": 5, "maximum": 9}
                return JSONResponse({"action": action, "observation": {}, "state": {}})
        return await call_next(request)

    return app


if "PLANT" in os.environ:
    app = served(os.environ["PLANT"])
else:
    app = FastAPI()

    @app.get("/health")
    def health():
        return {"status": "healthy"}

    for plant in PLANTS:
        app.mount("/" + plant, served(plant))
