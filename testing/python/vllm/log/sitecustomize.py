"""With this folder on PYTHONPATH, vLLM's engine writes what it is asked to ENVMILL_VLLM_LOG.

One line of JSON for each request that reaches the engine's core, whatever way it came: its id and its prompt
as token ids. It is the engine's own word on what the model was shown.
"""

import importlib.abc
import importlib.util
import json
import os
import sys

CORE = "vllm.v1.engine.core"
PATH = os.environ.get("ENVMILL_VLLM_LOG")


class Finder(importlib.abc.MetaPathFinder):
    """Finds the core's module as ever, and patches it once it is loaded."""

    def find_spec(self, name, path, target=None):
        if name != CORE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            patch(module)

        spec.loader.exec_module = exec_module
        return spec


def patch(module):
    add = module.EngineCore.add_request
    log = open(PATH, "a", buffering=1)

    def add_request(self, request, *rest, **named):
        ids = [int(it) for it in request.prompt_token_ids]
        log.write(json.dumps({"id": request.request_id, "prompt_token_ids": ids}) + "\n")
        return add(self, request, *rest, **named)

    module.EngineCore.add_request = add_request


if PATH:
    sys.meta_path.insert(0, Finder())
