"""Says which versions of which packages an environment has: one JSON list, last on standard output."""

import json
import platform
import sys
from importlib import metadata

# What is compared where it is there, whoever asked for it.
COMMON = ("openenv", "openenv-core", "gymnasium", "numpy")


def module_of(name):
    """The outermost module that an environment comes from."""
    identifier = name.removeprefix("gymnasium/")
    if identifier != name:
        import gymnasium

        entry = gymnasium.spec(identifier).entry_point
        name = entry if isinstance(entry, str) else entry.__module__
    return name.partition(":")[0].partition(".")[0]


def distributions(name):
    """The packages that the environment's module is installed by."""
    try:
        return metadata.packages_distributions().get(module_of(name), [])
    except Exception:
        # What cannot be found so is told of by whoever starts it.
        return []


found = {"python": platform.python_version()}
for package in (*distributions(sys.argv[1]), *COMMON):
    key = package.lower().replace("_", "-")
    try:
        found.setdefault(key, metadata.version(package))
    except metadata.PackageNotFoundError:
        pass
print()
print(json.dumps([f"{package} {version}" for package, version in found.items()]))
