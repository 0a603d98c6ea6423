"""A class called in a bare loop with nothing but the pydantic calls around it: what there is left when a
server is taken away.

Usage: bare_class.py MODULE:CLASS ACTION SESSIONS STEPS. Prints CPU microseconds a step, twice: with all the
calls that its own server makes, models of the messages included, and with those that the bytes of an
answer need.
"""

import importlib
import json
import sys
import time
from typing import Any, Dict

from openenv.core.env_server.serialization import deserialize_action, serialize_observation
from openenv.core.env_server.types import WSObservationResponse, WSStepMessage
from pydantic import TypeAdapter


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

    def server(text):
        data = WSStepMessage(**json.loads(message)).data
        observation = environment.step(deserialize_action(data, action_cls))
        WSObservationResponse(data=serialize_observation(observation)).model_dump_json()

    dump = TypeAdapter(Dict[str, Any]).dump_json

    def least(text):
        observation = environment.step(deserialize_action(json.loads(text), action_cls))
        dump(serialize_observation(observation))

    rounds = max(steps // sessions, 1)
    for step in (server, least):
        began = None
        for round in range(rounds + 3):
            if round == 3:
                began = time.process_time()
            for environment in environments:
                step(text)
        print((time.process_time() - began) * 1e6 / (rounds * sessions))


main()
