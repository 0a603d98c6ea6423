"""`envmill.run`."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import bench_env
import pytest
from conftest import SERVERS, command

import envmill


def test_a_native_environment_is_played() -> None:
    run = envmill.run("native:cartpole", episodes=20, sessions=4, seed=3)
    assert run.summary["episodes"]["completed"] == 20
    records = list(run.records)
    assert len(records) == len(run.records) == 20
    assert {record.seed for record in records} == set(range(3, 23))
    for record in records:
        # CartPole gives 1 for each step.
        assert record.reward == len(record.steps) == sum(step.reward for step in record.steps)
        assert record.end.kind == "completed"
    assert "20 completed" in repr(run)


def test_the_records_are_those_of_the_command(tmp_path: Path) -> None:
    run = envmill.run("native:echo", episodes=12, seed=7, max_steps=5)
    done = command(
        "run", "--env", "native:echo", "--episodes", "12", "--seed", "7", "--max-steps", "5",
        "--out", str(tmp_path / "out"), "--json", "--quiet",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary.keys() == run.summary.keys()
    assert summary["episodes"] == run.summary["episodes"]
    theirs = envmill.Records(tmp_path / "out" / "trajectories.jsonl")
    hashes = {record.seed: record.content_hash for record in theirs}
    assert hashes == {record.seed: record.content_hash for record in run.records}
    assert len(hashes) == 12


def test_a_class_is_stepped_in_processes_of_this_interpreter() -> None:
    run = envmill.run(
        bench_env.BenchEnv, episodes=6, sessions=3, replicas=1, max_steps=4,
        policy='constant:{"payload_bytes": 3}',
    )  # fmt: skip
    assert run.summary["episodes"]["truncated"] == 6, run.summary
    record = run.records[0]
    assert record.environment == "openenv-class:bench_env:BenchEnv"
    assert [step.observation["payload"] for step in record.steps] == ["xxx"] * 4
    # As each says who it is: one process, which was another one.
    (pid,) = {step.observation["pid"] for record in run.records for step in record.steps}
    assert pid > 0
    assert record.end.cause == "max_steps"


def test_served_environments_are_started_by_this_interpreter() -> None:
    run = envmill.run(env=["serve:native:cartpole"], episodes=5, sessions=2, replicas=2)
    assert run.summary["episodes"]["completed"] == 5
    assert len(run.summary["servers"]) == 2
    assert run.summary["children"]["cpu_s"] > 0


def test_a_served_class_finds_what_this_process_finds() -> None:
    run = envmill.run(
        "serve:openenv-class:bench_env:BenchEnv", episodes=2, sessions=1, max_steps=2, policy="random"
    )
    assert run.summary["episodes"]["truncated"] == 2


def test_records_without_a_place_go_with_the_last_who_knows_them() -> None:
    run = envmill.run("native:echo", episodes=2, max_steps=1)
    path, records = run.path, run.records
    del run
    assert len(records) == 2
    assert path.exists()
    del records
    assert not path.exists()


def test_records_with_a_place_stay(tmp_path: Path) -> None:
    run = envmill.run("native:echo", episodes=2, max_steps=1, out=tmp_path / "here", name="job")
    assert run.path == tmp_path / "here"
    assert json.loads((run.path / "job.json").read_text())["name"] == "job"
    del run
    assert len(envmill.Records(tmp_path / "here" / "trajectories.jsonl")) == 2
    with pytest.raises(envmill.EnvmillError, match="already holds trajectories"):
        envmill.run("native:echo", episodes=2, out=tmp_path / "here")
    again = envmill.run(
        "native:echo", episodes=3, max_steps=1, out=str(tmp_path / "here"), overwrite=True
    )
    assert len(again.records) == 3


def test_a_function_says_what_episodes_were_worth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_rewards.py").write_text(
        "import sys\n"
        "def score(episodes):\n"
        "    assert sys.executable == " + repr(sys.executable) + "\n"
        "    return [{'reward': len(it['steps']), 'components': {'half': 0.5}} for it in episodes]\n"
        "def later(episodes):\n"
        "    return [None for _ in episodes]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    run = envmill.run("native:echo", episodes=6, max_steps=3, scorer="mine=my_rewards:score")
    assert [record.reward for record in run.records] == [3.0] * 6
    assert [record.reward_components for record in run.records] == [{"half": 0.5}] * 6
    scores = run.summary["scores"]
    assert (scores["episodes"], scores["missing"], scores["reward_mean"]) == (6, 0, 3.0)
    assert scores["components"] == {"half": {"episodes": 6, "mean": 0.5}}
    several = ["mine=my_rewards:score,weight=2", "later=my_rewards:later,weight=0"]
    run = envmill.run("native:echo", episodes=4, max_steps=3, scorer=several)
    assert [record.reward for record in run.records] == [6.0] * 4
    assert run.records[0].reward_components == {"mine": 3.0, "mine/half": 0.5}
    with pytest.raises(envmill.EnvmillError, match="no attribute 'none'"):
        envmill.run("native:echo", episodes=1, max_steps=1, scorer="mine=my_rewards:none")
    with pytest.raises(ValueError, match="write NAME=TARGET"):
        envmill.run("native:echo", scorer="my_rewards")


def test_progress_is_told() -> None:
    told: list[envmill.Progress] = []
    envmill.run("native:synthetic?step_ms=20&episode_steps=5", episodes=8, on_progress=told.append)
    assert told[-1].episodes == told[-1].recorded == 8
    assert told[-1].failed == 0
    assert told[-1].steps > 0
    assert [progress.recorded for progress in told] == sorted(progress.recorded for progress in told)


def test_what_a_callback_raises_ends_the_run() -> None:
    def on_progress(progress: envmill.Progress) -> None:
        if progress.steps:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        envmill.run("native:synthetic?step_ms=50", episodes=100_000, on_progress=on_progress)


def test_the_interpreter_is_free_while_the_engine_plays() -> None:
    playing, counted = threading.Event(), 0

    def count() -> None:
        nonlocal counted
        while not playing.is_set():
            counted += 1

    counter = threading.Thread(target=count)
    counter.start()
    try:
        before = counted
        envmill.run("native:synthetic?step_ms=20&episode_steps=5", episodes=64)
        # A run that held the lock would have let nothing happen.
        assert counted > before + 1000
    finally:
        playing.set()
        counter.join()


def test_runs_from_several_threads_do_not_mind_each_other() -> None:
    runs: list[envmill.Run] = []
    threads = [
        threading.Thread(target=lambda: runs.append(envmill.run("native:cartpole", episodes=30)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({frozenset(record.content_hash for record in run.records) for run in runs}) == 1


def test_failed_episodes_are_data() -> None:
    run = envmill.run("native:synthetic?fail_rate=1", episodes=3, attempts=1)
    assert run.summary["episodes"]["failed"] == 3
    record = run.records[0]
    assert (record.end.kind, record.end.cause) == ("failed", "environment")
    assert record.end.message


def test_a_class_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    with pytest.raises(envmill.EnvmillError, match="no_such_module"):
        envmill.run("openenv-class:no_such_module:Env", episodes=1, out=tmp_path)
    assert SERVERS.exists()


def test_a_setting_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text('env = "native:echo"\nepisodes = 4\nmax-steps = 2\n')
    run = envmill.run(episodes=3, config=file)
    assert [len(record.steps) for record in run.records] == [2, 2, 2]
    file.write_text(f'env = "native:echo"\nepisodes = 1\nmax-steps = 1\nout = "{tmp_path}/out"\n')
    assert envmill.run(config=file).path == tmp_path / "out"
