# A server that ends once four of its sessions have stepped at one time.
import os
from typing import Any, Optional

from openenv.core.env_server import Action, Environment, Observation, State, create_app

STEPPED_MAX = 4
stepped: set = set()


class EndingEnv(Environment[Action, Observation, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(self, seed: Optional[int] = None, **kw: Any) -> Observation:
        return Observation()

    def step(self, action: Action, timeout_s=None, **kw: Any) -> Observation:
        stepped.add(id(self))
        if len(stepped) >= STEPPED_MAX:
            os.write(1, b"too many at once\n")
            os._exit(7)
        return Observation(reward=1.0)

    def close(self) -> None:
        stepped.discard(id(self))

    @property
    def state(self) -> State:
        return State()


app = create_app(EndingEnv, Action, Observation, env_name="ending", max_concurrent_envs=64)
