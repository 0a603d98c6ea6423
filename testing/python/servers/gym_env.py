# Gymnasium environments for tests: one whose spaces have no fixed size, and one that does not keep to its
# space.
import itertools
import time

import gymnasium
import numpy
from gymnasium import spaces


class Talk(gymnasium.Env):
    observation_space = spaces.Dict({"at": spaces.Box(0, 9, (2,), numpy.int32), "text": spaces.Text(8)})
    action_space = spaces.Dict({"move": spaces.Discrete(10), "say": spaces.Text(8)})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = numpy.zeros(2, numpy.int32)
        return {"at": self.at, "text": (options or {}).get("greet", "")}, {}

    def step(self, action):
        self.at = self.at + numpy.array([action["move"], 1], numpy.int32)
        seen = {"at": self.at, "text": action["say"]}
        info = {"hint": numpy.array([1.5, 2.5]), "steps": numpy.int64(self.at[1])}
        return seen, 0.5, action["move"] == 9, False, info


def make():
    return Talk()


class Wrong(gymnasium.Env):
    observation_space = spaces.Box(-1, 1, (2,), numpy.float32)
    action_space = spaces.Box(-1, 1, (2,), numpy.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return numpy.zeros(2, numpy.float32), {}

    def step(self, action):
        return numpy.zeros(3, numpy.float32), float(action.sum()), False, False, {}


class Odd(gymnasium.Env):
    """Whose observations are the numbers that they should be, and arrays of many kinds."""

    observation_space = spaces.Box(-9, 9, (2,), numpy.float32)
    action_space = spaces.Discrete(6)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return numpy.zeros(2, numpy.float32), {}

    def step(self, action):
        plain = numpy.array([action, -action], numpy.float32)
        with_gaps = numpy.repeat(plain, 2)[::2]
        seen = [plain, plain.astype(numpy.float64), with_gaps, plain, plain.reshape(2, 1), plain[:1]]
        return seen[action], 1.0, False, False, {}


class Sleeper(gymnasium.Env):
    """Waits in each step, as an environment that waits for something else does, and tells how long."""

    observation_space = spaces.Box(0, numpy.inf, (), numpy.float64)
    action_space = spaces.Discrete(2)

    def __init__(self, seconds, steps):
        self.seconds, self.steps = seconds, steps

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.taken = 0
        return numpy.float64(0), {}

    def step(self, action):
        began = time.monotonic()
        time.sleep(self.seconds)
        self.taken += 1
        return numpy.float64(time.monotonic() - began), 0.0, False, self.taken == self.steps, {}


class WrongRows(gymnasium.vector.VectorEnv):
    """Rows that can be reset, and whose observations are larger after a step than their space says."""

    def __init__(self, num_envs):
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = Wrong.observation_space, Wrong.action_space
        self.observation_space = gymnasium.vector.utils.batch_space(Wrong.observation_space, num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(Wrong.action_space, num_envs)

    def reset(self, *, seed=None, options=None):
        assert options is None or options["reset_mask"].any()
        return numpy.zeros((self.num_envs, 2), numpy.float32), {}

    def step(self, actions):
        ended = numpy.zeros(self.num_envs, bool)
        seen = numpy.zeros((self.num_envs, 3), numpy.float32)
        return seen, numpy.zeros(self.num_envs), ended, ended, {}


class Telling(gymnasium.vector.VectorEnv):
    """Rows with 2000 numbers, which tell of each step in another way, and end after four."""

    def __init__(self, num_envs):
        self.num_envs = num_envs
        self.single_observation_space = spaces.Box(-1e9, 1e9, (2000,), numpy.float32)
        self.single_action_space = spaces.Discrete(2, start=1)
        self.observation_space = gymnasium.vector.utils.batch_space(
            self.single_observation_space, num_envs
        )
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)
        self.taken = 0

    def reset(self, *, seed=None, options=None):
        assert options is None or options["reset_mask"].any()
        self.taken = 0
        return self.see(numpy.zeros(self.num_envs)), {}

    def see(self, actions):
        rows = numpy.arange(self.num_envs)[:, None] + 10 * actions[:, None]
        return (rows + 1000 * self.taken + numpy.zeros((1, 2000))).astype(numpy.float32)

    def step(self, actions):
        self.taken += 1
        rows, every = numpy.arange(self.num_envs), numpy.ones(self.num_envs, bool)
        infos = [
            {"row": rows, "_row": every, "half": rows.astype(numpy.float32) / 2, "odd": rows % 2 == 1},
            {"row": rows, "_row": rows == 1},
            {"row": rows + (1 << 60), "small": rows.astype(numpy.uint8)},
            {"name": [f"row {row}" for row in rows]},
        ][self.taken - 1]
        ended = numpy.full(self.num_envs, self.taken == 4)
        return self.see(actions), rows / 4, ended, ~every, infos


class Chatty(gymnasium.Env):
    """Whose `info` has other keys each time."""

    observation_space = spaces.Discrete(2)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.taken = 0
        return 0, {}

    def step(self, action):
        self.taken += 1
        return 0, 0.0, False, False, {f"n{self.taken}": self.taken, "big": 2**60}


# The first is made to see what it is like.
LIMITS = itertools.chain([4], itertools.cycle([2, 6, 4]))


def limited():
    return gymnasium.make("CartPole-v1", disable_env_checker=True, max_episode_steps=next(LIMITS))
