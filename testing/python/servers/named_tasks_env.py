# tasks_env whose Task API says what its tasks are: a name, and a word to be reset with.
import os
from typing import Any, Optional

from openenv.core.env_server import create_app

from bench_env import BenchAction, BenchObservation
from tasks_env import TASKS, TasksEnv


class NamedTasksEnv(TasksEnv):
    def reset(
        self,
        seed: Optional[int] = None,
        split: str = "",
        index: int = -1,
        word: str = "",
        **kw: Any,
    ) -> BenchObservation:
        observation = super().reset(seed=seed, split=split, index=index, **kw)
        observation.payload = f"{split}/{index}/{word}"
        return observation

    def get_task_range(self, split: str, start: Optional[int] = None, stop: Optional[int] = None):
        tasks = [{"id": f"word-{at}", "reset_parameters": {"word": "x" * at}} for at in range(TASKS)]
        return tasks[start:stop]


app = create_app(
    NamedTasksEnv,
    BenchAction,
    BenchObservation,
    env_name="named tasks",
    max_concurrent_envs=int(os.getenv("MAX_CONCURRENT_ENVS", "64")),
)
