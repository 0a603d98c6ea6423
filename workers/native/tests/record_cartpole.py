"""Records trajectories of Gymnasium's CartPole-v1 (pip install gymnasium) as test data:

    python record_cartpole.py > fixtures/cartpole_v1.json

Each step holds the float64 state before it, the action, the float64 state after it, the float32
observation, the reward and both flags.
"""

import json

import gymnasium
import numpy


def play(name, seed, choose):
    env = gymnasium.make("CartPole-v1")
    observation, _ = env.reset(seed=seed)
    steps = []
    while True:
        before = [float(x) for x in env.unwrapped.state]
        action = int(choose(observation, len(steps)))
        observation, reward, terminated, truncated, _ = env.step(action)
        steps.append(
            {
                "before": before,
                "action": action,
                "after": [float(x) for x in env.unwrapped.state],
                "observation": [float(x) for x in observation],
                "reward": float(reward),
                "terminated": bool(terminated),
                "truncated": bool(truncated),
            }
        )
        if terminated or truncated:
            return {"name": name, "seed": seed, "steps": steps}


rng = numpy.random.default_rng(0)
trajectories = [
    play("random", 1, lambda _, __: rng.integers(2)),
    play("always right", 2, lambda _, __: 1),
    play("balanced to the limit", 3, lambda o, _: o[2] + 0.5 * o[3] + 0.02 * o[1] + 0.01 * o[0] > 0),
]
print(
    json.dumps({"gymnasium": gymnasium.__version__, "trajectories": trajectories}, indent=None)
)
