"""The tests that need a trainer: TRL and Atropos, or with the word `verl` verl, which wants other versions of
the same packages.

    cargo xtask python                        # makes the wheel that is tested
    python testing/python/trainers.py         # TRL, Atropos, and the examples with a trainer
    python testing/python/trainers.py verl

Makes an environment of pinned packages under `.venvs` where there is none (PyTorch is large: several GB),
installs the wheel into it, and runs `python/tests/trainers`. What stands after that goes to pytest.
"""

import pathlib
import subprocess
import sys
import venv

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTS = {
    "trainers": ["test_trl.py", "test_atropos.py", "test_examples.py"],
    "verl": ["test_verl.py"],
}


def environment(name):
    """The interpreter of an environment that has what the requirements of this name say."""
    place = ROOT / ".venvs" / name
    python = place / "bin" / "python"
    requirements = ROOT / "testing" / "python" / f"{name}-requirements.txt"
    made = place / "made-from.txt"
    if not made.exists() or made.read_bytes() != requirements.read_bytes():
        venv.create(place, clear=True, with_pip=True)
        pip(python, "--no-deps", "--requirement", str(requirements))
        made.write_bytes(requirements.read_bytes())
    return python


def pip(python, *words):
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*command, *words], check=True)


def main():
    name, *rest = sys.argv[1:] or ["trainers"]
    if name not in TESTS:
        name, rest = "trainers", [name, *rest]
    wheels = sorted((ROOT / "target" / "python").glob("envmill-*.whl"))
    if not wheels:
        sys.exit("there is no wheel: `cargo xtask python` makes it")
    python = environment(name)
    pip(python, "--no-deps", "--no-index", "--force-reinstall", str(wheels[-1]))
    tests = [str(ROOT / "python" / "tests" / "trainers" / test) for test in TESTS[name]]
    how = ["--quiet", "--rootdir=python", "--config-file=python/pyproject.toml"]
    return subprocess.run([python, "-m", "pytest", *how, *rest, *tests], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
