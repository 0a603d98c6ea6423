# bench_env whose episodes end by themselves, each after a number of steps of its own drawn from the
# reset's seed: 1 to 2 x STEPS_MEAN - 1, so that sessions do not end in step.
import os
from typing import Any, Optional

from openenv.core.env_server import create_app

from bench_env import BenchAction, BenchEnv, BenchObservation

STEPS_MEAN = int(os.getenv("STEPS_MEAN", "30"))


class StaggeredEnv(BenchEnv):
    def __init__(self) -> None:
        super().__init__()
        self._length = STEPS_MEAN

    def reset(self, seed: Optional[int] = None, **kw: Any) -> BenchObservation:
        self._length = 1 + (seed or 0) * 7919 % (2 * STEPS_MEAN - 1)
        return super().reset(seed=seed, **kw)

    def step(self, action: BenchAction, timeout_s=None, **kw: Any) -> BenchObservation:
        observation = super().step(action, timeout_s=timeout_s, **kw)
        observation.done = observation.step >= self._length
        return observation


app = create_app(
    StaggeredEnv,
    BenchAction,
    BenchObservation,
    env_name="staggered",
    max_concurrent_envs=int(os.getenv("MAX_CONCURRENT_ENVS", "8192")),
)
