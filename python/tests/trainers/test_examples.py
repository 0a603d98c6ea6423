"""The examples with a trainer run. Needs what `testing/python/trainers-requirements.txt` has."""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BOUND_S, REPOSITORY

VLLM_BOUND_S = 900


@pytest.mark.parametrize(
    ("example", "told"),
    [
        (["trl_grpo.py", "--steps", "3"], "3 optimizer steps on 192 episodes"),
        (["gloo_ranks.py"], "3 of them were killed and came back, to 3 shares"),
    ],
)
def test_an_example_runs(example: list[str], told: str, tmp_path: Path) -> None:
    run(example, told, tmp_path, BOUND_S - 10)


@pytest.mark.skipif("ENVMILL_VLLM" not in os.environ, reason="no vLLM: `cargo xtask vllm` installs one")
@pytest.mark.parametrize(
    ("example", "told"),
    [
        (["trl_vllm.py", "--steps", "12"], "12 optimizer steps on 768 episodes"),
        (["trl_async.py", "--steps", "6"], "6 optimizer steps"),
    ],
)
def test_an_example_with_vllm_runs(example: list[str], told: str, tmp_path: Path) -> None:
    vllm = Path(os.environ["ENVMILL_VLLM"]) / "venv" / "bin" / "vllm"
    # It takes longer than other tests: a vLLM starts for a minute.
    faulthandler.dump_traceback_later(VLLM_BOUND_S, exit=True)
    run([*example, "--vllm", str(vllm)], told, tmp_path, VLLM_BOUND_S - 10)


def run(example: list[str], told: str, tmp_path: Path, bound_s: float) -> None:
    script = REPOSITORY / "examples" / "python" / example[0]
    done = subprocess.run(
        [sys.executable, str(script), *example[1:]],
        capture_output=True,
        text=True,
        timeout=bound_s,
        cwd=tmp_path,
        env={**os.environ, "TRL_EXPERIMENTAL_SILENCE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert told in done.stdout
