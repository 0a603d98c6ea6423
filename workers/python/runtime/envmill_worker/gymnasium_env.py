"""Gymnasium environments: numbers cross as columns, and only what is no number as text.

An action's JSON is `{"action": …}` and an observation's `{"observation": …}`. Where a space has a fixed
number of numbers, a column holds them for all rows of a batch, and neither side parses or prints
anything in Python.
"""

import json
import time

import gymnasium
from gymnasium.wrappers import OrderEnforcing, TimeLimit

from .answers import NUMBERS, Answers, column_views
from .port import CLOSE, CLOSED, FAILED, LAST_STEP, OPEN, RESET, STATE, STEP
from .spaces import column, from_json, schema
from .target import load_object, version

TERMINATED, TRUNCATED = 1, 2
# As in `threads`: answers are handed over once they have gathered for so long.
FLUSH_S = 0.005
# So many rows that took no longer together are followed by as many before the clock is looked at again.
QUICK_ROWS, QUICK_S = 8, 0.001


class GymnasiumEnv:
    """What the engine's target names, looked at once a process."""

    def __init__(self, config):
        self.config, self.name = config, config["target"]
        self.arguments = config.get("arguments") or {}
        probe = self.make()
        self.action_space, self.observation_space = probe.action_space, probe.observation_space
        # So many steps an episode has at most, where the engine can count them.
        self.steps_max = limit(probe)
        probe.close()
        self.action_column = column(self.action_space)
        self.observation_column = column(self.observation_space)

    def make(self):
        if self.name.startswith("gymnasium/"):
            name = self.name.removeprefix("gymnasium/")
            return gymnasium.make(name, disable_env_checker=True, **self.arguments)
        return load_object(self.name)(**self.arguments)

    def describe(self):
        return {
            "name": self.name.removeprefix("gymnasium/"),
            "action": schema("action", self.action_space),
            "observation": schema("observation", self.observation_space),
            "reset_observation": schema("observation", self.observation_space),
            "state": {
                "type": "object",
                "properties": {"episode_id": {"type": "null"}, "step_count": {"type": "integer"}},
            },
            "concurrent": True,
            "versions": {"gymnasium": version("gymnasium"), "numpy": version("numpy")},
            "columns": {"action": self.action_column, "observation": self.observation_column},
            "steps_max": self.steps_max,
        }

    def answer_columns(self):
        """What the answers have beside those of every worker."""
        columns = [
            ("flags", "u8", ()),
            ("reward", "f64", ()),
            ("info_numbers", "f64", (NUMBERS,)),
            ("info_keys", "u32", ()),
        ]
        if self.observation_column is not None:
            dtype, shape = self.observation_column
            columns.append(("observation", dtype, shape))
        return columns

    def serve(self, port):
        Server(port, self).run()


class Server:
    def __init__(self, port, adapter):
        self.port, self.adapter = port, adapter
        # The environments of sessions, by number; and how those are stepped that have been reset, if their
        # actions and observations are numbers.
        self.sessions, self.steps = {}, {}
        # Numpy's views of the actions, for each slot of the ring.
        self.actions = column_views(port.requests, "action", adapter.action_column)
        self.answers = Answers(port, adapter)
        self.is_numeric = self.actions is not None and adapter.observation_column is not None

    def run(self):
        port = self.port
        while True:
            batch = port.next_batch()
            if batch is None:
                port.wait()
                continue
            actions = self.take_actions(batch)
            identities, kinds, texts = port.read_columns(batch)
            texts = texts or [b""] * len(kinds)
            # Without a column for them, actions are texts.
            self.take(identities, kinds, texts, texts if actions is None else actions)
            port.state[0] = 0
            self.answers.flush()

    def take_actions(self, batch):
        """The batch's actions, copied out of the ring, which will be the engine's again."""
        if self.actions is None:
            return None
        number, count = batch[0], batch[1]
        column = self.actions[number % self.port.requests.slots][:count]
        # Scalars as Python's own numbers, which is what most environments expect.
        return column.tolist() if column.ndim == 1 else column.copy()

    def take(self, identities, kinds, texts, actions):
        """Takes requests, of which nearly all are steps whose action and observation are numbers and that
        end nothing: those are taken here, and not by a call for each."""
        state, answers = self.port.state, self.answers
        answered, rewards, seen_all = answers.identities, answers.rewards, answers.seen
        rows, clock = self.port.answers.rows, time.monotonic
        numbers = [identity >> 32 for identity in identities]
        steps = map(self.steps.get, numbers)
        looked_at = clock()
        flush_at, look_at = looked_at + FLUSH_S, 0
        for identity, number, kind, step, text, action in zip(
            identities, numbers, kinds, steps, texts, actions
        ):
            state[0] = number + 1
            if kind != STEP or step is None:
                self.handle(identity, kind, text, action)
            else:
                try:
                    seen, reward, terminated, truncated, info = step(action)
                    if terminated or truncated or info:
                        flags = TERMINATED * bool(terminated) | TRUNCATED * bool(truncated)
                        answers.see(identity, seen, ending(info, flags), reward, flags)
                    else:
                        rewards.append(reward if type(reward) is float else float(reward))
                        answered.append(identity)
                        seen_all.append(seen)
                except BaseException as error:  # noqa: BLE001
                    answers.fail(identity, error)
            if len(answered) >= look_at:
                now = clock()
                if now >= flush_at or len(answered) >= rows:
                    answers.flush()
                    flush_at = now + FLUSH_S
                # Where steps take no time, neither should looking at it.
                look_at = len(answered) + (QUICK_ROWS if now - looked_at < QUICK_S else 1)
                look_at, looked_at = min(look_at, rows), now

    def is_counted(self, env):
        """Whether the engine says which step of it is the last."""
        return self.adapter.steps_max is not None and self.adapter.steps_max == limit(env)

    def handle(self, identity, kind, text, action):
        number = identity >> 32
        if kind == OPEN:
            # Made when it is first needed.
            self.sessions[number] = None
            return
        answers = self.answers
        if kind == CLOSE:
            self.steps.pop(number, None)
            close(self.sessions.pop(number, None))
            answers.put(identity, CLOSED)
            return
        if number not in self.sessions:
            return
        try:
            if kind == STATE:
                answers.tell_state(identity, text)
                return
            env = self.sessions[number]
            if env is None:
                env = self.sessions[number] = self.adapter.make()
            if kind == RESET:
                seed, options = reset_parameters(text)
                seen, info = env.reset(seed=seed, options=options)
                if self.is_numeric and number not in self.steps:
                    # What Gymnasium's two wrappers look for is known, and costs a step 0.4 µs.
                    self.steps[number] = env.env.env.step if self.is_counted(env) else env.step
                # A reset has no reward, which is not 0.
                answers.see(identity, seen, info, float("nan"), 0)
            elif kind in (STEP, LAST_STEP):
                if self.actions is None:
                    action = from_json(self.adapter.action_space, json.loads(text)["action"])
                step = self.steps.get(number, env.step)
                seen, reward, terminated, truncated, info = step(action)
                truncated = truncated or kind == LAST_STEP and self.is_counted(env)
                flags = TERMINATED * bool(terminated) | TRUNCATED * bool(truncated)
                answers.see(identity, seen, ending(info, flags), reward, flags)
            else:
                answers.put(identity, FAILED, b"the environment has no tools")
        except BaseException as error:  # noqa: BLE001
            answers.fail(identity, error)


def reset_parameters(text):
    """The seed and the options of a reset."""
    if text.startswith(b'{"seed":') and text[8:-1].isdigit():
        # As nearly always; `json` takes ten times as long.
        return int(text[8:-1]), None
    parameters = json.loads(text) if text else {}
    return parameters.get("seed"), parameters.get("options")


def ending(info, flags):
    # For whoever hears of the end only that it has come, as OpenEnv's clients do.
    return {**info, "truncated": flags == TRUNCATED} if flags else info


def limit(env):
    """The most steps of an episode, where what says so is Gymnasium's own wrapper, outermost and around
    the one that refuses steps before a reset, as `gymnasium.make` puts them."""
    if type(env) is TimeLimit and type(env.env) is OrderEnforcing:
        return env._max_episode_steps
    return None


def close(env):
    if env is not None:
        try:
            env.close()
        except BaseException:  # noqa: BLE001
            pass
