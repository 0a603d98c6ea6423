# bench_env with OpenEnv's Task API: the split "train" has 5 tasks, and an episode plays the one that
# its reset names by `split` and `index`, or by `word`.
import os
from typing import Any, Optional

from openenv.core.env_server import create_app

from bench_env import BenchAction, BenchEnv, BenchObservation

TASKS = 5


class TasksEnv(BenchEnv):
    def reset(
        self,
        seed: Optional[int] = None,
        split: str = "",
        index: int = -1,
        word: str = "",
        **kw: Any,
    ) -> BenchObservation:
        observation = super().reset(seed=seed, **kw)
        observation.payload = f"{split}/{index}" if split else word
        return observation

    def list_splits(self) -> list[Any]:
        return ["train"]

    def num_tasks(self, split: str) -> int:
        return TASKS if split == "train" else 0


app = create_app(
    TasksEnv,
    BenchAction,
    BenchObservation,
    env_name="my tasks",
    max_concurrent_envs=int(os.getenv("MAX_CONCURRENT_ENVS", "64")),
)
