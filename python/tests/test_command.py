"""The command `envmill`, as it is installed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from conftest import REPOSITORY, SERVERS, STUBS, command, descendants, is_running, python, until

import envmill

LONG = ["--env", "native:synthetic?step_ms=20&episode_steps=20", "--sessions", "8"]


def start(*arguments: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("envmill")), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def test_it_is_on_the_path_and_a_module() -> None:
    assert command("--version").stdout == f"envmill {envmill.__version__}\n"
    done = python("import runpy, sys; sys.argv = ['x', 'env', 'list']; runpy.run_module('envmill')")
    assert done.stdout == ""
    listed = subprocess.run(
        [sys.executable, "-m", "envmill", "env", "list"], capture_output=True, text=True
    )
    assert listed.returncode == 0
    assert "cartpole" in listed.stdout


def test_it_is_the_very_same_command(tmp_path: Path) -> None:
    binary = REPOSITORY / "target" / "debug" / "envmill"
    for arguments in (
        ["--help"],
        ["run", "--help"],
        ["run", "--sesions", "3"],
        ["run", "--sessions", "0"],
        ["dance"],
        [],
        ["env", "serve", "carpole"],
        ["replay-core", str(tmp_path / "nothing")],
    ):
        ours = command(*arguments)
        assert ours.returncode == (0 if "--help" in arguments else 2), (arguments, ours)
        if binary.exists():
            theirs = subprocess.run([str(binary), *arguments], capture_output=True, text=True)
            assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
            assert ours.stderr == theirs.stderr


def test_standard_output_is_data(tmp_path: Path) -> None:
    done = command(
        "run", "--env", "native:echo", "--episodes", "3", "--max-steps", "3",
        "--out", str(tmp_path), "--json",
    )  # fmt: skip
    assert done.returncode == 0
    assert json.loads(done.stdout)["episodes"]["requested"] == 3
    done = command("run", "--env", "native:echo", "--out", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "already holds trajectories" in done.stderr


def test_failed_episodes_make_a_status(tmp_path: Path) -> None:
    done = command(
        "run", "--env", "native:synthetic?fail_rate=1", "--episodes", "2", "--attempts", "1",
        "--out", str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 3, done.stderr


def test_it_starts_its_servers_by_itself(tmp_path: Path) -> None:
    done = command(
        "run", "--env", "serve:cartpole", "--episodes", "4", "--out", str(tmp_path), "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["children"]["cpu_s"] > 0


def test_the_first_ctrl_c_drains(tmp_path: Path) -> None:
    run = start("run", *LONG, "--episodes", "100000", "--out", str(tmp_path), "--json", "--quiet")
    until(lambda: (tmp_path / "trajectories.jsonl").exists() and
          (tmp_path / "trajectories.jsonl").stat().st_size > 0)  # fmt: skip
    run.send_signal(signal.SIGINT)
    stdout, stderr = run.communicate()
    # Not a word of Python's.
    assert stderr == "ending: no more episodes are started; once more to cut those that run\n"
    assert run.returncode == 0
    episodes = json.loads(stdout)["episodes"]
    assert episodes["completed"] > 0
    assert episodes["cancelled"] > 0
    assert episodes["completed"] + episodes["cancelled"] == episodes["requested"] == 100_000


def test_the_second_ctrl_c_cuts(tmp_path: Path) -> None:
    hanging = "native:synthetic?step_ms=3600000"
    run = start(
        "run", "--env", hanging, "--episodes", "4", "--out", str(tmp_path), "--json", "--quiet",
        "--step-timeout-ms", "0",
    )  # fmt: skip
    until(lambda: (tmp_path / "job.json").exists())
    run.send_signal(signal.SIGINT)
    assert run.stderr is not None
    assert run.stderr.readline().startswith("ending: no more")
    run.send_signal(signal.SIGINT)
    stdout, stderr = run.communicate()
    assert (run.returncode, stderr) == (130, "ending now\n")
    assert json.loads(stdout)["episodes"]["cancelled"] == 4


def test_ctrl_c_ends_what_does_not_look_for_it() -> None:
    serving = start("env", "serve", "echo", "--port", "0")
    assert serving.stdout is not None
    assert serving.stdout.readline().startswith("http://127.0.0.1:")
    serving.send_signal(signal.SIGINT)
    serving.communicate()
    assert serving.returncode == 0


def test_nothing_of_a_killed_run_is_left(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{STUBS}:{SERVERS}"}
    run = start(
        "run", "--env", "serve:openenv-class:bench_env:BenchEnv", "--episodes", "100000",
        "--max-steps", "3", "--out", str(tmp_path), "--quiet",
        env=environment,
    )  # fmt: skip
    until(lambda: (tmp_path / "trajectories.jsonl").exists() and
          (tmp_path / "trajectories.jsonl").stat().st_size > 0)  # fmt: skip
    started = descendants(run.pid)
    assert len(started) >= 3
    run.kill()
    run.communicate()
    until(lambda: not any(is_running(pid) for pid in started))
