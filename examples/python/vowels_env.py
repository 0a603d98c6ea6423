"""A game that a tiny model learns in minutes: the environment asks twice, and wants vowels. Each answer is
worth how many of its first eight characters are vowels, at most 1. `trl_vllm.py` and `trl_async.py` play it."""

from openenv.core.env_server import Action, Environment, Observation, State

LENGTH = 8
TURNS = 2


class Say(Action):
    text: str


class Asked(Observation):
    text: str = ""


class Vowels(Environment[Say, Asked, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        super().__init__()
        self._state = State()

    def reset(self, seed=None, episode_id=None, **_):
        self._state = State(episode_id=episode_id)
        return Asked(text="sing")

    def step(self, action: Say, timeout_s=None, **_):
        self._state.step_count += 1
        reward = sum(letter in "aeiouAEIOU" for letter in action.text[:LENGTH]) / LENGTH
        return Asked(text="again", reward=reward, done=self._state.step_count == TURNS)

    @property
    def state(self):
        return self._state
