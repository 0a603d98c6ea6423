"""A class called in a bare loop, with the pydantic calls that its server makes: what there is left when
everything around an environment is taken away.

Usage: bare_class.py MODULE:CLASS ACTION SESSIONS STEPS. Prints CPU microseconds a step.
"""

import importlib
import json
import sys
import time

from openenv.core.env_server.serialization import deserialize_action, serialize_observation
from openenv.core.env_server.types import WSObservationResponse, WSStepMessage


def main():
    module, name = sys.argv[1].split(":")
    made = getattr(importlib.import_module(module), name)
    text, sessions, steps = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    message = json.dumps({"type": "step", "data": json.loads(text)})
    action_cls = next(
        base.__args__[0] for each in made.__mro__ for base in getattr(each, "__orig_bases__", ())
    )
    environments = [made() for _ in range(sessions)]
    for seed, environment in enumerate(environments):
        environment.reset(seed=seed)

    def play(rounds):
        for _ in range(rounds):
            for environment in environments:
                data = WSStepMessage(**json.loads(message)).data
                observation = environment.step(deserialize_action(data, action_cls))
                response = WSObservationResponse(data=serialize_observation(observation))
                response.model_dump_json()

    play(3)
    rounds = max(steps // sessions, 1)
    began = time.process_time()
    play(rounds)
    print((time.process_time() - began) * 1e6 / (rounds * sessions))


main()
