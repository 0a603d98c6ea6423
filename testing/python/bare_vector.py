"""A vectorised Gymnasium environment stepped by Python alone, with actions drawn beforehand.

Usage: bare_vector.py MODULE:FACTORY ARGUMENTS ROWS STEPS, the arguments as a JSON object. The environment
begins episodes as it does by itself. Prints CPU microseconds a step of one row, and such steps a second.
"""

import importlib
import json
import sys
import time

import numpy


def main():
    name, arguments, rows, steps = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    module, _, factory = name.partition(":")
    environment = getattr(importlib.import_module(module), factory)(num_envs=rows, **arguments)
    space = environment.single_action_space
    space.seed(0)
    actions = numpy.array([[space.sample() for _ in range(rows)] for _ in range(257)])
    environment.reset(seed=0)

    def play(rounds):
        for round in range(rounds):
            environment.step(actions[round % 257])

    play(10)
    rounds = max(steps // rows, 1)
    began, before = time.monotonic(), time.process_time()
    play(rounds)
    taken = rounds * rows
    print((time.process_time() - before) * 1e6 / taken, taken / (time.monotonic() - began))


if __name__ == "__main__":
    main()
