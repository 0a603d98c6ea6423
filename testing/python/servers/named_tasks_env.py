# tasks_env whose Task API says what its tasks are: a name, and a word to be reset with. Each has TASK_BYTES
# more to it that nobody reads; what is asked is written into the file ASKED, a line each; and with RANGE_FAILS
# there is no answer.
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
        if asked := os.getenv("ASKED"):
            with open(asked, "a") as file:
                file.write(f"{start}:{stop}\n")
        if os.getenv("RANGE_FAILS"):
            raise RuntimeError("the tasks are out")
        more = "x" * int(os.getenv("TASK_BYTES", "0"))
        tasks = [
            {"id": f"word-{at}", "reset_parameters": {"word": "x" * at}, "more": more}
            for at in range(TASKS)
        ]
        return tasks[start:stop]


app = create_app(
    NamedTasksEnv,
    BenchAction,
    BenchObservation,
    env_name="named tasks",
    max_concurrent_envs=int(os.getenv("MAX_CONCURRENT_ENVS", "64")),
)
