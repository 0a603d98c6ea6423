"""A game for a model with a dozen tokens: the environment shows a letter, and wants to read it. Each of three
turns is worth 1 if the answer begins with the letter. `trl_grpo.py` and `gloo_ranks.py` play it."""

import random

from openenv.core.env_server import Action, Environment, Observation, State

LETTERS = "abcd"
TURNS = 3


class Read(Action):
    text: str


class Shown(Observation):
    text: str = ""


class Letters(Environment[Read, Shown, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        super().__init__()
        self._state = State()
        self._left = []

    def reset(self, seed=None, episode_id=None, **_):
        self._left = random.Random(seed).choices(LETTERS, k=TURNS)
        self._state = State(episode_id=episode_id)
        return Shown(text=f"{self._left[0]}?")

    def step(self, action: Read, timeout_s=None, **_):
        self._state.step_count += 1
        letter = self._left.pop(0)
        reward = float(action.text.startswith(letter))
        shown = f"{self._left[0]}?" if self._left else ""
        return Shown(text=shown, reward=reward, done=not self._left)

    @property
    def state(self):
        return self._state
