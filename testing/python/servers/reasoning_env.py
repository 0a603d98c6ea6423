# Tasks of reasoning-gym as an OpenEnv class: an episode is one question, and each step an answer to it
# that gets its score; it is over with the right one.
import os
from typing import Any, Optional

import reasoning_gym
from openenv.core.env_server import Action, Environment, Observation, State, create_app

DATASET = os.getenv("REASONING_DATASET", "chain_sum")


class ReasoningAction(Action):
    answer: str = ""


class ReasoningObservation(Observation):
    question: str = ""
    score: float = 0.0


class ReasoningEnv(Environment[ReasoningAction, ReasoningObservation, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._state = State(step_count=0)
        self._entry: dict[str, Any] = {}

    def reset(self, seed: Optional[int] = None, **kw: Any) -> ReasoningObservation:
        self._state = State(step_count=0)
        self._dataset = reasoning_gym.create_dataset(DATASET, size=1, seed=seed or 0)
        self._entry = self._dataset[0]
        return ReasoningObservation(question=self._entry["question"])

    def step(self, action: ReasoningAction, timeout_s=None, **kw: Any) -> ReasoningObservation:
        self._state.step_count += 1
        score = float(self._dataset.score_answer(answer=action.answer, entry=self._entry))
        return ReasoningObservation(
            question=self._entry["question"], score=score, reward=score, done=score == 1.0
        )

    @property
    def state(self) -> State:
        return self._state


app = create_app(
    ReasoningEnv,
    ReasoningAction,
    ReasoningObservation,
    env_name="reasoning",
    max_concurrent_envs=int(os.getenv("MAX_CONCURRENT_ENVS", "8192")),
)
