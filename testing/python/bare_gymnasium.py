"""Gymnasium environments stepped by Python alone, with actions drawn beforehand.

Usage: bare_gymnasium.py bare|sync|async ID ENVIRONMENTS STEPS. `bare` is a loop over single environments
that resets those that end; the others are Gymnasium's vector environments. Prints CPU microseconds a step,
children included, and steps a second.
"""

import itertools
import sys
import time

import gymnasium
import numpy


def cpu():
    # Of the processes that a vector environment has started, too, which live until the end.
    total = time.process_time()
    for pid in children:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / 100
    return total


children = []


def main():
    how, name, count, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    make = lambda: gymnasium.make(name, disable_env_checker=True)  # noqa: E731
    rounds = max(steps // count, 1)
    space = make().action_space
    space.seed(0)
    actions = numpy.array([[space.sample() for _ in range(count)] for _ in range(256)])
    if how == "bare":
        environments = [make() for _ in range(count)]
        for seed, environment in enumerate(environments):
            environment.reset(seed=seed)

        seeds = itertools.count(count)

        def play(rounds):
            for round in range(rounds):
                row = actions[round % 256].tolist()
                for environment, action in zip(environments, row):
                    _, _, terminated, truncated, _ = environment.step(action)
                    if terminated or truncated:
                        # As the engine's resets: each episode has its seed.
                        environment.reset(seed=next(seeds))
    else:
        kind = gymnasium.vector.AsyncVectorEnv if how == "async" else gymnasium.vector.SyncVectorEnv
        vector = kind([make] * count)
        vector.reset(seed=0)
        if how == "async":
            children.extend(process.pid for process in vector.processes)

        def play(rounds):
            for round in range(rounds):
                vector.step(actions[round % 256])

    play(20)
    began, before = time.monotonic(), cpu()
    play(rounds)
    taken = rounds * count
    print((cpu() - before) * 1e6 / taken, taken / (time.monotonic() - began))


if __name__ == "__main__":
    main()
