"""The tests that need a trainer: TRL, Atropos and verl.

    cargo xtask python                  # makes the wheel that is tested
    python testing/python/trainers.py   # what stands after it goes to pytest

Makes an environment of pinned packages, `.venvs/trainers`, where there is none (PyTorch is large: 7 GB in
all), installs the wheel into it, and runs `python/tests/trainers`.
"""

import pathlib
import subprocess
import sys
import venv

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLACE = ROOT / ".venvs" / "trainers"
REQUIREMENTS = ROOT / "testing" / "python" / "trainers-requirements.txt"


def environment():
    """The interpreter of the environment, which has what the requirements say."""
    python = PLACE / "bin" / "python"
    made = PLACE / "made-from.txt"
    if not made.exists() or made.read_bytes() != REQUIREMENTS.read_bytes():
        venv.create(PLACE, clear=True, with_pip=True)
        pip(python, "--no-deps", "--requirement", str(REQUIREMENTS))
        made.write_bytes(REQUIREMENTS.read_bytes())
    return python


def pip(python, *words):
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*command, *words], check=True)


def main():
    wheels = sorted((ROOT / "target" / "python").glob("envmill-*.whl"))
    if not wheels:
        sys.exit("there is no wheel: `cargo xtask python` makes it")
    python = environment()
    pip(python, "--no-deps", "--no-index", "--force-reinstall", str(wheels[-1]))
    how = ["--quiet", "--rootdir=python", "--config-file=python/pyproject.toml"]
    command = [python, "-m", "pytest", *how, *sys.argv[1:], "python/tests/trainers"]
    return subprocess.run(command, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
