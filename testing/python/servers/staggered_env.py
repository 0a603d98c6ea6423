# bench_env whose episodes end by themselves, each after a number of steps of its own drawn from the
# reset's seed: 1 to 2 x STEPS_MEAN - 1, so that sessions do not end in step.
#
# BENCH_ASYNC=1: a step waits on the event loop, not in a thread of its session. Two thousand threads
# that wake at once contend for the interpreter's lock until nothing else is done.
import asyncio
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

    def _obs(self, a: BenchAction) -> BenchObservation:
        observation = super()._obs(a)
        observation.done = observation.step >= self._length
        return observation


class AsyncStaggeredEnv(StaggeredEnv):
    async def reset_async(self, seed: Optional[int] = None, **kw: Any) -> BenchObservation:
        return self.reset(seed=seed, **kw)

    async def step_async(self, action: BenchAction, timeout_s=None, **kw: Any) -> BenchObservation:
        await asyncio.sleep(action.sleep_s)
        return self._obs(action)


app = create_app(
    AsyncStaggeredEnv if os.getenv("BENCH_ASYNC") == "1" else StaggeredEnv,
    BenchAction,
    BenchObservation,
    env_name="staggered",
    max_concurrent_envs=int(os.getenv("MAX_CONCURRENT_ENVS", "8192")),
)
