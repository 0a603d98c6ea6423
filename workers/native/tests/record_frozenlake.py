"""Records the transition tables and some trajectories of Gymnasium's FrozenLake-v1 (pip install
gymnasium) as test data:

    python record_frozenlake.py > fixtures/frozenlake_v1.json

A lake's table holds, by cell and action, the outcomes as [probability, cell, reward, terminated].
A trajectory holds its steps as [action, cell, reward, terminated, truncated].
"""

import json

import gymnasium
import numpy


def lake(map_name, slippery):
    name = {"4x4": "FrozenLake-v1", "8x8": "FrozenLake8x8-v1"}[map_name]
    env = gymnasium.make(name, is_slippery=slippery)
    table = env.unwrapped.P
    rng = numpy.random.default_rng(0)
    trajectories = []
    for seed, choose in enumerate(
        [
            lambda: int(rng.integers(4)),
            lambda: int(rng.integers(1, 3)),
            lambda: 0,
            lambda: int(rng.integers(1, 3)),
        ]
    ):
        env.reset(seed=seed)
        env.action_space.seed(seed)
        steps = []
        over = False
        while not over:
            action = choose()
            cell, reward, terminated, truncated, _ = env.step(action)
            steps.append([action, int(cell), float(reward), bool(terminated), bool(truncated)])
            over = terminated or truncated
        trajectories.append(steps)
    return {
        "map": map_name,
        "slippery": slippery,
        "table": [
            [
                [[float(p), int(s), float(r), bool(t)] for p, s, r, t in table[cell][action]]
                for action in range(4)
            ]
            for cell in range(len(table))
        ],
        "trajectories": trajectories,
    }


def rounded(value):
    if isinstance(value, float):
        return round(value, 12)
    if isinstance(value, list):
        return [rounded(each) for each in value]
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return value


lakes = [lake(name, slippery) for name in ("4x4", "8x8") for slippery in (False, True)]
recorded = {"gymnasium": gymnasium.__version__, "lakes": rounded(lakes)}
print(json.dumps(recorded, separators=(",", ":")))
