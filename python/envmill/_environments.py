"""How environments of this process are named to other processes, and how those find them."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

COMMAND = [sys.executable, "-m", "envmill"]
"""What starts the command of this very installation."""

CLASS = "openenv-class:"
"""What stands before a class."""

EnvironmentClass: TypeAlias = type[Any] | Callable[..., Any]
"""An OpenEnv ``Environment`` class, or an annotated function that makes such environments."""


def target_of(environment: str | EnvironmentClass) -> str:
    """The environment as the command writes it: a string as it is, a class as
    ``openenv-class:module:Class``.

    Raises ``ValueError`` for a class that another process cannot import, and ``TypeError`` for what is
    neither.
    """
    if isinstance(environment, str):
        return environment
    name = getattr(environment, "__qualname__", None)
    if not callable(environment) or not isinstance(name, str):
        raise TypeError(
            f"an environment is a string or a class that can be imported, not {environment!r}"
        )
    if "<" in name:
        raise ValueError(
            f"{name} is defined within a function, where no other process finds it: define it at the "
            "top of a module"
        )
    return f"{CLASS}{_module_of(environment, name)}:{name}"


def _module_of(environment: EnvironmentClass, name: str) -> str:
    module_name = environment.__module__
    module = sys.modules.get(module_name)
    if getattr(getattr(module, "__spec__", None), "_initializing", False):
        # The processes that step the environment import it, too: each would begin a run of its own.
        raise RuntimeError(
            f"{name} is to be played while its module {module_name} is still being imported: put what "
            'plays it behind `if __name__ == "__main__":`'
        )
    if module_name != "__main__" or module is None:
        return module_name
    if (spec := module.__spec__) is not None:
        # python -m package.module
        return spec.name.removesuffix(".__main__") if spec.parent is None else spec.name
    script = _script(module)
    if script is None:
        raise ValueError(
            f"{name} is defined in this session, where no other process finds it: put it into a module "
            "of its own and import it from there"
        )
    return script.stem


def _script(module: ModuleType) -> Path | None:
    """The script that is running, if it can be imported under its own name."""
    if module.__file__ is None:
        return None
    script = Path(module.__file__).resolve()
    return script if script.suffix == ".py" and script.stem.isidentifier() else None


def search_path() -> list[str]:
    """The directories in which this process looks for modules and a fresh interpreter would not."""
    own = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    own.update(site.getsitepackages())
    own.add(site.getusersitepackages())
    own = {os.path.realpath(directory) for directory in own if directory}
    found = []
    for entry in sys.path:
        directory = os.path.realpath(entry or os.getcwd())
        is_own = directory in own or directory.endswith("/lib-dynload")
        if not is_own and os.path.exists(directory) and directory not in found:
            found.append(directory)
    return found
