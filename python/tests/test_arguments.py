"""Keyword arguments, and which class is which."""

from __future__ import annotations

import functools
import subprocess
import sys
import typing
from pathlib import Path

import numpy
import pytest

import envmill
from envmill import _native
from envmill._environments import search_path, target_of
from envmill._settings import Settings


def test_every_setting_is_a_keyword_argument() -> None:
    named = {"env", "episodes", "sessions", "policy", "seed", "out"}
    keywords = named | set(typing.get_type_hints(Settings))
    assert keywords == {name.replace("-", "_") for name in _native.setting_names()}


@pytest.mark.parametrize(
    ("keyword", "nearest"),
    [("sesions", "'sessions'"), ("max-steps_", "'max_steps'"), ("episode", "'episodes'")],
)
def test_an_unknown_one_names_the_nearest(keyword: str, nearest: str) -> None:
    with pytest.raises(TypeError, match=f"{keyword.replace('-', '_')}'; did you mean {nearest}"):
        envmill.run(**{keyword: 3})


def test_one_that_is_like_none_says_where_they_are() -> None:
    with pytest.raises(TypeError, match="envmill run --help"):
        envmill.run(zzz=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sessions": 0}, "--sessions: it must be at least 1"),
        ({"sessions": "many"}, "`sessions`: invalid type"),
        ({"sessions": -1}, "`sessions`: invalid value"),
        ({"sessions": 1.5}, "`sessions`: invalid type"),
        ({"sessions": object()}, "cannot be a setting"),
        ({"format": "csv"}, "jsonl, arrow or parquet"),
        ({"resume": True}, "--out"),
        ({"env": "native:carpole"}, "cartpole"),
        ({"env": ["native:echo", "native:cartpole"]}, "play alone"),
        ({"policy": "constant:1"}, "--policy"),
        ({"config": "/nowhere/job.toml"}, "/nowhere/job.toml"),
    ],
)
def test_wrong_values_have_the_engines_message(settings: dict[str, typing.Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        envmill.run(**settings)


def test_a_wrong_key_of_a_file_is_no_keyword(tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text("sesions = 3\n")
    with pytest.raises(ValueError, match="did you mean `sessions`"):
        envmill.run(config=file)


def test_values_are_taken_in_pythons_forms() -> None:
    run = envmill.run(
        "native:echo",
        episodes=numpy.int64(2),
        max_steps=numpy.int32(1),
        reset_parameters={"episode_id": "mine"},
        session_reuse="never",
        step_timeout_ms=None,
        header=["X-Team: rl"],
        no_seed=True,
    )
    assert [record.reset_parameters for record in run.records] == [{"episode_id": "mine"}] * 2
    assert [record.seed for record in run.records] == [None, None]


def test_classes_are_named_by_their_modules() -> None:
    assert target_of("native:echo") == "native:echo"
    assert target_of(Path) == f"openenv-class:{Path.__module__}:Path"

    class Inner:
        pass

    with pytest.raises(ValueError, match="within a function"):
        target_of(Inner)
    with pytest.raises(TypeError, match="not 5"):
        target_of(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not functools"):
        target_of(functools.partial(Path))


def test_the_path_holds_what_an_interpreter_does_not_have() -> None:
    directories = [Path(directory) for directory in search_path()]
    assert Path(__file__).parent / "stubs" in directories
    assert not any(directory.name == "site-packages" for directory in directories)


ENVIRONMENT = """
import sys

sys.path.insert(0, {stubs!r})
import envmill
from openenv.core.env_server import Action, Environment, Observation, State


class Here(Environment[Action, Observation, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(self, seed=None, **_):
        return Observation()

    def step(self, action, **_):
        return Observation(reward=2.0, done=True)

    @property
    def state(self):
        return State()

"""

MAIN = """
if __name__ == "__main__":
    run = envmill.run(Here, episodes=3, replicas=1, policy="constant:{}")
    print(run.summary["episodes"]["completed"], run.records[0].environment)
"""


def test_a_class_of_the_script_itself_is_found(tmp_path: Path) -> None:
    stubs = str(Path(__file__).parent / "stubs")
    script = tmp_path / "a_script.py"
    script.write_text(ENVIRONMENT.format(stubs=stubs) + MAIN)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.stdout == "3 openenv-class:a_script:Here\n", done.stderr


def test_a_script_without_its_guard_is_told_of_it(tmp_path: Path) -> None:
    stubs = str(Path(__file__).parent / "stubs")
    script = tmp_path / "unguarded.py"
    script.write_text(
        ENVIRONMENT.format(stubs=stubs)
        + 'envmill.run(Here, episodes=3, replicas=1, policy="constant:{}")\n'
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode != 0
    assert 'if __name__ == "__main__":' in done.stderr
