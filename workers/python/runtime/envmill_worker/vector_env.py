"""Vectorised environments: one environment whose rows are the sessions of its process.

All rows step together, once each of them that is in an episode has its action. Where single rows can be
reset, with a seed, that happens at once. Where they cannot, the environment begins a row's next episode by
itself in the step after the end of one (Gymnasium's `NEXT_STEP`): a reset then waits for that and gets what
the environment gives, and seeds have no effect.
"""

import json

import gymnasium
import numpy
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import iterate

from .gymnasium_env import TERMINATED, TRUNCATED, GymnasiumEnv, Server, ending
from .port import CLOSE, CLOSED, FAILED, OPEN, RESET, STATE, STEP
from .spaces import column
from .target import TargetError, load_object


class VectorisedEnv(GymnasiumEnv):
    """What the engine's target names; made once, and then stepped."""

    def __init__(self, config):
        self.config, self.name = config, config["target"]
        self.arguments = config.get("arguments") or {}
        self.rows = config["vector"]
        self.env = self.make()
        self.action_space = self.env.single_action_space
        self.observation_space = self.env.single_observation_space
        self.action_column = column(self.action_space)
        self.observation_column = column(self.observation_space)
        self.steps_max = None
        if self.action_column is None:
            raise TargetError(
                f"{self.name}: a vectorised environment's actions must be numbers, and these are "
                f"{self.action_space}"
            )
        if not resets_rows(self.env) and mode(self.env) != AutoresetMode.NEXT_STEP:
            raise TargetError(
                f"{self.name} resets no single rows (`reset_mask`), so it must begin episodes in the "
                f"step after an end (AutoresetMode.NEXT_STEP), and its mode is {mode(self.env)}"
            )

    def make(self):
        if self.name.startswith("gymnasium/"):
            name = self.name.removeprefix("gymnasium/")
            env = gymnasium.make_vec(name, num_envs=self.rows, **self.arguments)
        else:
            env = load_object(self.name)(num_envs=self.rows, **self.arguments)
        if not isinstance(env, VectorEnv) or env.num_envs != self.rows:
            raise TargetError(f"{self.name} makes no gymnasium.vector.VectorEnv of {self.rows} rows")
        return env

    def serve(self, port):
        VectorServer(port, self).run()


def resets_rows(env):
    """Whether a reset can be of some rows: whether it looks for `reset_mask` among its options."""
    code = getattr(type(env.unwrapped).reset, "__code__", None)
    return code is not None and "reset_mask" in code.co_consts


def mode(env):
    return (env.unwrapped.metadata or {}).get("autoreset_mode")


class Row:
    """A row, as the session knows it that has it."""

    __slots__ = ("index", "live", "session", "step")

    def __init__(self, index):
        self.index, self.session = index, None
        self.free()

    def free(self):
        # In an episode; the step that waits to be taken: who asks, and the action.
        self.session, self.live, self.step = None, False, None


class VectorServer(Server):
    def __init__(self, port, adapter):
        super().__init__(port, adapter)
        self.env, self.rows = adapter.env, [Row(index) for index in range(adapter.rows)]
        self.by_session = {}
        self.resets_rows = resets_rows(self.env)
        # What rows without an action are stepped with.
        adapter.action_space.seed(0)
        self.filler = adapter.action_space.sample()
        space = self.env.action_space
        self.batch = numpy.empty((len(self.rows), *adapter.action_space.shape), dtype=space.dtype)
        self.live, self.due, self.resets = 0, [], {}
        self.is_action = membership(adapter.action_space)
        self.begin()

    def begin(self):
        """All rows at the beginning of episodes that nobody plays yet."""
        self.seen, self.told = self.env.reset()
        # Rows that show a first observation, and those whose episode the last step has ended.
        self.fresh = numpy.ones(len(self.rows), dtype=bool)
        self.ended = numpy.zeros(len(self.rows), dtype=bool)

    def run(self):
        while True:
            batch = self.port.next_batch()
            if batch is not None:
                actions = self.take_actions(batch)
                for number, (identity, kind, text) in enumerate(self.port.read(batch)):
                    self.handle(identity, kind, text, actions[number])
                continue
            is_busy = self.turn()
            self.answers.flush()
            self.port.wait(0 if is_busy else None)

    def handle(self, identity, kind, text, action):
        number = identity >> 32
        row = self.by_session.get(number)
        if kind == OPEN:
            free = [row for row in self.rows if row.session is None]
            if free:
                # One that can begin at once, if there is one.
                row = next((row for row in free if self.fresh[row.index]), free[0])
                row.session = number
                self.by_session[number] = row
        elif kind == CLOSE:
            if row is not None:
                self.pause(row)
                row.free()
                del self.by_session[number]
            self.answers.put(identity, CLOSED)
        elif row is None:
            self.answers.put(identity, FAILED, b"each row of the vectorised environment has a session")
        elif kind == STATE:
            self.answers.tell_state(identity, text)
        elif kind == RESET:
            self.pause(row)
            parameters = json.loads(text) if text else {}
            problem = refused_reset(parameters)
            if problem:
                self.answers.put(identity, FAILED, problem)
            else:
                self.resets[row.index] = (identity, parameters.get("seed"))
        elif kind == STEP:
            self.ask_step(row, identity, action)
        else:
            self.answers.put(identity, FAILED, b"the environment has no tools")

    def ask_step(self, row, identity, action):
        # What one row does wrong must not become the step's error, which is everybody's. (Where numbers
        # are only out of bounds, environments differ, and many cut them.)
        if not row.live:
            self.answers.put(identity, FAILED, b"there is no episode: reset the environment first")
        elif not self.is_action(action):
            space = self.adapter.action_space
            self.answers.put(identity, FAILED, f"{action} is no action of {space}".encode())
        else:
            row.step = (identity, action)
            self.due.append(row)

    def pause(self, row):
        """Nobody plays the row on, for now."""
        self.resets.pop(row.index, None)
        if row.step is not None:
            row.step = None
            self.due.remove(row)
        self.live -= row.live
        row.live = False

    def turn(self):
        """Goes one step on if that is due. Whether it was."""
        if self.resets and self.resets_rows:
            self.guarded(self.reset_rows, self.resets)
            return True
        ready = [index for index in self.resets if self.fresh[index]]
        if ready:
            self.answer_resets(ready, self.seen, self.told)
            return True
        # Where nobody plays, those that wait for a row's next episode have it played to its end.
        is_due = len(self.due) == self.live and (self.due or self.resets)
        if is_due:
            self.guarded(self.step, self.resets if not self.due else ())
        return bool(is_due)

    def guarded(self, work, resets):
        """Does something to the environment. If it fails, so do all who wait, and it is made anew."""
        waiting = [row.step[0] for row in self.due] + [self.resets[index][0] for index in resets]
        self.port.state[0] = (waiting[0] >> 32) + 1
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            waiting = [row.step[0] for row in self.due]
            waiting += [identity for identity, _ in self.resets.values()]
            for identity in waiting:
                self.answers.fail(identity, error)
            for row in self.rows:
                self.pause(row)
            self.env.close()
            self.env = self.adapter.make()
            self.begin()
        self.port.state[0] = 0

    def reset_rows(self):
        indices = sorted(self.resets)
        mask = numpy.zeros(len(self.rows), dtype=bool)
        mask[indices] = True
        seeds = {index: self.resets[index][1] for index in indices}
        if all(seed is None for seed in seeds.values()):
            seed = None
        elif isinstance(self.env.unwrapped, (SyncVectorEnv, AsyncVectorEnv)):
            seed = [seeds.get(index) for index in range(len(self.rows))]
        else:
            seed = numpy.array([-1 if each is None else each for each in seeds.values()])
        seen, infos = self.env.reset(seed=seed, options={"reset_mask": mask})
        self.answer_resets(indices, seen, infos)

    def answer_resets(self, indices, seen, infos):
        seen = self.split(seen)
        # Some give all rows, and some those that were reset.
        is_all = len(seen) == len(self.rows)
        infos = by_row(infos, len(seen))
        for place, index in enumerate(indices):
            row, (identity, _) = self.rows[index], self.resets.pop(index)
            place = index if is_all else place
            row.live = True
            self.live += 1
            self.fresh[index] = False
            # A reset has no reward, which is not 0.
            self.show(identity, seen[place], infos[place], float("nan"), 0)

    def step(self):
        batch, due = self.batch, self.due
        batch[:] = self.filler
        batch[[row.index for row in due]] = [row.step[1] for row in due]
        seen, rewards, terminated, truncated, infos = self.env.step(batch)
        self.seen, self.told = seen, infos
        self.fresh = self.ended
        ends = terminated | truncated
        self.ended = ends & ~self.fresh
        if len(due) == len(self.rows) and not ends.any():
            # As nearly always.
            identities = [row.step[0] for row in self.rows]
            if self.answers.see_all(identities, seen, rewards, infos):
                self.due = []
                for row in self.rows:
                    row.step = None
                return
        seen, rewards = self.split(seen), rewards.tolist()
        flags = (TERMINATED * terminated | TRUNCATED * truncated).tolist()
        infos = by_row(infos, len(self.rows))
        self.due = []
        for row in due:
            index, (identity, _) = row.index, row.step
            row.step = None
            if flags[index]:
                row.live = False
                self.live -= 1
            info = ending(infos[index], flags[index])
            self.show(identity, seen[index], info, rewards[index], flags[index])

    def show(self, identity, seen, info, reward, flags):
        try:
            self.answers.see(identity, seen, info, reward, flags)
        except BaseException as error:  # noqa: BLE001
            self.answers.fail(identity, error)

    def split(self, seen):
        """Observations by row."""
        if isinstance(seen, numpy.ndarray):
            return seen
        return list(iterate(self.env.observation_space, seen))


def membership(space):
    """Whether an action is a space's, as something that is quick to ask."""
    if isinstance(space, Discrete):
        # Columns of them are whole numbers.
        return range(int(space.start), int(space.start + space.n)).__contains__
    return (lambda action: True) if isinstance(space, Box) else space.contains


def refused_reset(parameters):
    """Why a row cannot be reset so, if it cannot."""
    seed = parameters.get("seed")
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**31):
        return b"seed: a whole number from 0 to 2147483647 is wanted"
    if parameters.get("options") is not None:
        return b"options: a row of a vectorised environment takes none"
    return None


def by_row(infos, count):
    """What a vectorised environment's infos say of each of its rows."""
    rows = [{} for _ in range(count)]
    for key, value in infos.items():
        if key.startswith("_"):
            continue
        has = infos.get(f"_{key}")
        has = has.tolist() if isinstance(has, numpy.ndarray) else has
        if isinstance(value, dict):
            value = by_row(value, count)
        elif isinstance(value, numpy.ndarray) and value.ndim and len(value) == count:
            if value.ndim == 1 and value.dtype.kind in "biuf" and value.itemsize <= 8:
                # All numbers at once; one by one they would be numpy's.
                value = value.tolist()
        elif not (isinstance(value, (list, tuple)) and len(value) == count):
            value = [value] * count
        for index, row in enumerate(rows):
            if has is None or has[index]:
                row[key] = value[index]
    return rows
