"""What is written about the package holds."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import REPOSITORY, STUBS

import envmill


def test_the_version_is_the_packages() -> None:
    assert envmill.__version__ == importlib.metadata.version("envmill")


def test_whatever_is_public_is_documented() -> None:
    stub = ast.parse((Path(envmill.__file__).parent / "_native.pyi").read_text())
    classes = {node.name: node for node in stub.body if isinstance(node, ast.ClassDef)}
    for name in envmill.__all__:
        if name in classes:
            assert ast.get_docstring(classes[name]), name
            members = [
                member
                for member in classes[name].body
                if isinstance(member, ast.FunctionDef) and not member.name.startswith("_")
            ]
            for member in members:
                assert ast.get_docstring(member), f"{name}.{member.name}"
            names = {member.name for member in members}
            own = {name for name in vars(getattr(envmill, name)) if not name.startswith("_")}
            assert names == own, name
        elif name != "__version__":
            assert inspect.getdoc(getattr(envmill, name)), name


def test_the_types_are_checked_strictly(tmp_path: Path) -> None:
    # Where it is installed its neighbours would be checked, too.
    package = tmp_path / "envmill"
    shutil.copytree(Path(envmill.__file__).parent, package)
    caller = tmp_path / "caller.py"
    caller.write_text(
        "import envmill\n"
        "run = envmill.run('native:echo', episodes=1, max_steps=3, format='arrow')\n"
        "reward: float | None = run.records[0].steps[0].reward\n"
        "with envmill.serve('native:echo', block=False) as server:\n"
        "    url: str = server.url\n"
        "with envmill.Client(url) as client, client.rollouts({'environment': 'echo'}) as rollouts:\n"
        "    for record in rollouts:\n"
        "        number: int = record.delivery.number if record.delivery else 0\n"
        "        rollouts.ack([record, number], wait=False)\n"
    )
    done = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--python-version", "3.10",
            "--cache-dir", str(tmp_path / "cache"), str(package), str(caller),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def blocks(document: Path) -> list[str]:
    """The blocks of Python in the section of the README on this package."""
    _, section = document.read_text().split("\n## From Python\n")
    section, *_ = section.split("\n## ")
    return [block.split("```")[0] for block in section.split("```python\n")[1:]]


def test_what_the_readme_shows_runs(tmp_path: Path) -> None:
    found = blocks(REPOSITORY / "README.md")
    assert len(found) >= 2
    for number, block in enumerate(found):
        script = tmp_path / f"block_{number}.py"
        script.write_text(block)
        done = subprocess.run(
            [sys.executable, str(script)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(STUBS)},
        )
        assert done.returncode == 0, block + done.stderr
