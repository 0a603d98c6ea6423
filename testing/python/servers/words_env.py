# A conversation that takes any text: a few rounds of questions with everything in them that makes
# tokenising hard at boundaries (spaces, newlines, other scripts, what looks like special tokens).
# The reward is how many of a reply's letters are vowels, which a model can honestly learn.
import random
from typing import Any, Optional

from openenv.core.env_server import Action, Environment, Observation, State, create_app

PIECES = [
    "What follows?",
    " leading space",
    "trailing space ",
    "two\n\nlines\n",
    "ein Würfel, 骰子, кубик 🎲",
    "tabs\tand  double  spaces",
    "<|im_end|",
    "1234567890 + 0.5e-7",
    "def f(x):\n    return x\n",
    "",
]


class WordsAction(Action):
    message: str


class WordsObservation(Observation):
    text: str = ""


class WordsEnv(Environment[WordsAction, WordsObservation, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._state = State(step_count=0)
        self._random = random.Random(0)
        self._rounds = 1

    def reset(self, seed: Optional[int] = None, **kw: Any) -> WordsObservation:
        self._state = State(step_count=0)
        self._random = random.Random(seed)
        self._rounds = self._random.randint(2, 6)
        return WordsObservation(text=self._question())

    def step(self, action: WordsAction, timeout_s=None, **kw: Any) -> WordsObservation:
        self._state.step_count += 1
        letters = [it for it in action.message.lower() if it.isalpha()]
        share = sum(it in "aeiou" for it in letters) / max(len(letters), 1)
        text = f"{len(action.message)} characters. {self._question()}"
        done = self._state.step_count >= self._rounds
        return WordsObservation(text=text, reward=share, done=done)

    def _question(self) -> str:
        return "".join(self._random.choice(PIECES) for _ in range(self._random.randint(1, 3)))

    @property
    def state(self) -> State:
        return self._state


app = create_app(WordsEnv, WordsAction, WordsObservation, env_name="words_env", max_concurrent_envs=1024)
