"""OpenEnv `Environment` classes: what their own server's `/ws` would answer, byte for byte.

Actions are built by the class's own pydantic model, observations serialised by the installed
version's own functions. What is here follows `openenv.core.env_server.http_server`.
"""

import functools
import inspect
import json
import os
import typing
from typing import Any, Dict

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.serialization import deserialize_action, serialize_observation
from openenv.core.env_server.types import (
    Action,
    Observation,
    State,
    WSErrorCode,
    WSErrorResponse,
    WSStateResponse,
)

from .target import TargetError, load_object, version

_dump = TypeAdapter(Dict[str, Any]).dump_json


class OpenEnvClass:
    """What the engine's target names, looked at once a process."""

    def __init__(self, config):
        self.config = config
        made = load_object(config["target"])
        if not callable(made):
            raise TargetError(f"`{config['target']}` is no class and no function that makes environments")
        arguments = config.get("arguments") or {}
        self.factory = functools.partial(made, **arguments) if arguments else made
        self.name = getattr(made, "__name__", "environment")
        self.cls = made if inspect.isclass(made) else None
        if self.cls is not None and not issubclass(self.cls, Environment):
            raise TargetError(f"`{config['target']}` is no OpenEnv Environment")
        known = self.cls or returned_class(made)
        models = models_of(known)
        self.action_cls = given(config, "action") or models[0] or Action
        self.observation_cls = given(config, "observation") or models[1] or Observation
        self.reset_observation_cls = given(config, "reset_observation") or self.observation_cls
        self.state_cls = given(config, "state") or models[2] or State
        os.environ["OPENENV_MODE"] = config.get("mode") or os.environ.get("OPENENV_MODE", "simulation")
        has_session = callable(getattr(known, "mcp_session", None))
        self.resets_async = overrides(known, "reset_async")
        self.steps_async = overrides(known, "step_async")
        self.is_async = has_session or self.resets_async or self.steps_async
        self.one_thread = bool(getattr(known, "REQUIRES_SINGLE_THREAD_EXECUTOR", False))
        self.concurrent = bool(getattr(known, "SUPPORTS_CONCURRENT_SESSIONS", False))
        self.reset_keys = accepted(known.reset_async if self.resets_async else known.reset)

    def serve(self, port):
        if self.is_async:
            from . import event_loop

            event_loop.serve(port, self)
        else:
            from . import threads

            threads.serve(port, self)

    def describe(self):
        description = {
            "name": self.config.get("env_name") or self.name,
            "action": self.action_cls.model_json_schema(),
            "observation": self.observation_cls.model_json_schema(),
            "reset_observation": self.reset_observation_cls.model_json_schema(),
            "state": self.state_cls.model_json_schema(),
            "concurrent": self.concurrent,
            "versions": {"openenv": version("openenv"), "pydantic": version("pydantic")},
        }
        if self.config.get("metadata"):
            # The one thing for which an environment must be made.
            env = self.factory()
            try:
                description["metadata"] = env.get_metadata().model_dump(mode="json")
            finally:
                env.close()
        return description

    def reset_arguments(self, text):
        """The reset's parameters, without those that the class does not take."""
        parameters = parsed(text) if text else {}
        if self.reset_keys is None:
            return parameters
        return {key: value for key, value in parameters.items() if key in self.reset_keys}

    def action(self, text):
        return deserialize_action(parsed(text), self.action_cls)


def parsed(text):
    """What `json.loads` makes of it, in a tenth of the time."""
    try:
        return from_json(text)
    except ValueError:
        # A lone surrogate, great depth, or what is no JSON for either of them.
        return json.loads(text)


def given(config, what):
    """A model that was named beside the class."""
    name = config.get(what)
    return load_object(name) if name else None


def returned_class(factory):
    """What a function says that it makes."""
    hints = hints_of(factory)
    made = hints.get("return")
    if not inspect.isclass(made) or not issubclass(made, Environment):
        raise TargetError(
            f"`{getattr(factory, '__name__', factory)}` does not say what it makes: annotate it with "
            "the Environment class that it returns, or name the class itself"
        )
    return made


def models_of(cls):
    """The models of actions, observations and state: from the class's type parameters, or else from
    the annotations of its methods."""
    for each in cls.__mro__:
        for base in getattr(each, "__orig_bases__", ()):
            origin = typing.get_origin(base)
            if inspect.isclass(origin) and issubclass(origin, Environment):
                models = [model if is_model(model) else None for model in typing.get_args(base)]
                if any(models):
                    return (models + [None, None, None])[:3]
    step = hints_of(cls.step)
    action = next((hint for name, hint in step.items() if name != "return" and is_model(hint)), None)
    observation = step.get("return")
    state = hints_of(cls.state.fget).get("return") if isinstance(cls.state, property) else None
    if action is None or action is Action:
        action = mcp_model(cls, "CallToolAction") or action
        observation = mcp_model(cls, "CallToolObservation") or observation
    return action, observation if is_model(observation) else None, state if is_model(state) else None


def mcp_model(cls, name):
    """The model that servers of tools are made with, where the class is one."""
    try:
        from openenv.core.env_server import mcp_environment, mcp_types
    except ImportError:
        return None
    return getattr(mcp_types, name) if issubclass(cls, mcp_environment.MCPEnvironment) else None


def is_model(found):
    return inspect.isclass(found) and hasattr(found, "model_json_schema")


def hints_of(function):
    try:
        return typing.get_type_hints(function)
    except Exception:  # noqa: BLE001
        # Annotations that do not resolve say nothing.
        return {}


def overrides(cls, name):
    return getattr(cls, name, None) is not getattr(Environment, name, None)


def accepted(method):
    """The names of a method's parameters; `None` where it takes any."""
    parameters = inspect.signature(method).parameters.values()
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return None
    return {each.name for each in parameters} - {"self"}


# The frames of `/ws`. Keys, their order and the form of numbers are those of the server's models.


def observation_frame(observation):
    return b'{"type":"observation","data":' + _dump(serialize_observation(observation)) + b"}"


def state_frame(state):
    data = state.model_dump() if hasattr(state, "model_dump") else dict(state) if state else {}
    return WSStateResponse(data=data).model_dump_json().encode()


def factory_frame(adapter, error):
    """The environment could not be made; the text is what the server's exception says."""
    try:
        from openenv.core.env_server.exceptions import EnvironmentFactoryError

        text = str(EnvironmentFactoryError(adapter.name))
    except ImportError:
        text = f"Failed to create environment: {error}"
    # The server keeps the cause to itself; whoever reads a record wants to know it.
    data = {"message": f"{text}: {type(error).__name__}: {error}", "code": WSErrorCode.FACTORY_ERROR}
    return WSErrorResponse(data={**data, "factory_name": adapter.name}).model_dump_json().encode()


def error_frame(error):
    """What an exception is answered with, and whether the session lives on."""
    try:
        if isinstance(error, ValidationError):
            data = {
                "message": "Invalid message",
                "code": WSErrorCode.VALIDATION_ERROR,
                "errors": error.errors(),
            }
        else:
            text = str(error) if isinstance(error, Exception) else repr(error)
            data = {"message": text, "code": WSErrorCode.EXECUTION_ERROR}
        return WSErrorResponse(data=data).model_dump_json().encode(), True
    except Exception as second:  # noqa: BLE001
        # An error that cannot be told ends the session on the server, too.
        data = {"message": str(second), "code": WSErrorCode.SESSION_ERROR}
        return WSErrorResponse(data=data).model_dump_json().encode(), False
