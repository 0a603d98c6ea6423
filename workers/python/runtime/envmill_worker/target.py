"""What is to be stepped, from its name."""

import importlib
import importlib.metadata


def version(package):
    """The installed version of a package, if it is installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


class TargetError(Exception):
    """What was asked for is not there, with what to do."""


def load_object(name):
    """The object called `module:attribute`."""
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise TargetError(f"`{name}` names no object: write module:Class")
    try:
        found = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and module_name.split(".")[: error.name.count(".") + 1] == error.name.split("."):
            raise TargetError(
                f"there is no module `{module_name}`: install it, or run from the directory that "
                "holds it, or set PYTHONPATH"
            ) from error
        raise
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise TargetError(f"`{module_name}` has no `{attribute}`") from error
    return found


def preload(config):
    """Imports what `adapter` needs, and nothing else."""
    if config["kind"] == "openenv":
        importlib.import_module("envmill_worker.openenv_class")
    else:
        importlib.import_module(
            "envmill_worker.vector_env" if config["vector"] else "envmill_worker.gymnasium_env"
        )
    if ":" in config["target"] and not config["target"].startswith("gymnasium/"):
        load_object(config["target"])


def adapter(config):
    """Who steps it."""
    if config["kind"] == "openenv":
        from .openenv_class import OpenEnvClass

        return OpenEnvClass(config)
    if config["vector"]:
        from .vector_env import VectorisedEnv

        return VectorisedEnv(config)
    from .gymnasium_env import GymnasiumEnv

    return GymnasiumEnv(config)
