"""The examples with a trainer run. Needs what `testing/python/trainers-requirements.txt` has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BOUND_S, REPOSITORY


@pytest.mark.parametrize(
    ("example", "told"),
    [
        (["trl_grpo.py", "--steps", "3"], "3 optimizer steps on 192 episodes"),
        (["gloo_ranks.py"], "3 of them were killed and came back, to 3 shares"),
    ],
)
def test_an_example_runs(example: list[str], told: str, tmp_path: Path) -> None:
    script = REPOSITORY / "examples" / "python" / example[0]
    done = subprocess.run(
        [sys.executable, str(script), *example[1:]],
        capture_output=True,
        text=True,
        timeout=BOUND_S - 10,
        cwd=tmp_path,
        env={**os.environ, "TRL_EXPERIMENTAL_SILENCE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert told in done.stdout
