"""The client of the rollout service: what it refuses by itself, and jobs on a real service."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from conftest import BOUND_S, forked, python, until

import envmill

CONFIG = """
[service]
listen = "127.0.0.1:{port}"
store = {store}

[environments.cartpole]
env = "native:cartpole"
sessions = 64

[environments.slow]
env = "native:synthetic?step_ms=20&episode_steps=20"
sessions = 8
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Service:
    """A service in a process of its own, on a port and a store that stay the same."""

    def __init__(self, directory: Path) -> None:
        self.url = ""
        self._config = directory / "serve.toml"
        store = json.dumps(str(directory / "store"))
        self._config.write_text(CONFIG.format(port=free_port(), store=store))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        envmill_command = str(Path(sys.executable).with_name("envmill"))
        self._process = subprocess.Popen(
            [envmill_command, "serve", "--config", str(self._config)],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().decode().strip()
        assert self.url.startswith("http://127.0.0.1:")

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self.wait()

    def end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self.wait()

    def wait(self) -> None:
        assert self._process is not None
        self._process.wait(BOUND_S / 2)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("service"))
    service.start()
    yield service
    service.end()


@pytest.fixture
def client(service: Service) -> Iterator[envmill.Client]:
    with envmill.Client(service.url) as client:
        yield client


@pytest.fixture
def nowhere() -> envmill.Client:
    return envmill.Client(f"http://127.0.0.1:{free_port()}")


def job(**fields: Any) -> dict[str, Any]:
    return {"environment": "cartpole", "episodes": 20, "seed": 3, **fields}


# What needs no service.


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"episodse": 3}, r"^job: there is no 'episodse'; did you mean 'episodes'\?$"),
        ({"limits": {"max_step": 3}}, r"^job\.limits: .*did you mean 'max_steps'"),
        ({"tasks": [{"id": "a"}, {"parameter": {}}]}, r"^job\.tasks\[1\]: .*'parameters'"),
        ({"qqq": 1}, r"there are name, environment, episodes, groups"),
        ({"delivery": {"order": "by_gruop"}}, r"^job\.delivery\.order: .*did you mean 'by_group'"),
        ({"delivery": {"order": "nonsense!"}}, r"there are as_finished, by_group, batches"),
        ({"delivery": {"order": 1}}, r"one of as_finished, by_group, batches is wanted"),
        ({"policy": "randm"}, r"^job\.policy: .*did you mean 'random'"),
        ({"policy": "constant"}, r"'constant' needs a value: \{'constant': \.\.\.\}"),
        ({"policy": {"random": {}, "trainer": {}}}, r"either 'random' or 'trainer', not both"),
        ({"episodes": -1}, r"^job\.episodes: a number from 0 to 2\*\*64 - 1 is wanted, not -1$"),
        ({"episodes": True}, r"^job\.episodes: a number is wanted, not True$"),
        ({"priority": 1 << 40}, r"^job\.priority: a number of 32 bits"),
        ({"name": 5}, r"^job\.name: a string is wanted, not 5$"),
        ({"no_seed": "yes"}, r"^job\.no_seed: True or False is wanted, not 'yes'$"),
        ({"reset_parameters": {"x": float("nan")}}, r"^job\.reset_parameters: JSON is wanted"),
        ({"limits": 3}, r"^job\.limits: a dict is wanted, not 3$"),
        ({"tasks": 3}, r"^job\.tasks: a list is wanted"),
    ],
)
def test_a_job_that_is_none_is_refused_before_it_is_sent(
    nowhere: envmill.Client, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        nowhere.rollouts(given)


def test_a_url_that_is_none_is_refused() -> None:
    for url in ("127.0.0.1:80", "ftp://127.0.0.1", "http://"):
        with pytest.raises(ValueError, match=url):
            envmill.Client(url)
    with pytest.raises(ValueError, match="nowhere.pem"):
        envmill.Client("https://127.0.0.1:1", ca="/nowhere.pem")
    with pytest.raises(ValueError, match="token"):
        envmill.Client("http://127.0.0.1:1", token="a\nb")
    with pytest.raises(ValueError, match="reconnect_s"):
        envmill.Client("http://127.0.0.1:1").attach("a.1", reconnect_s=-1.0)


def test_a_service_that_is_not_there_is_told_of(nowhere: envmill.Client) -> None:
    with pytest.raises(envmill.Unreachable, match="refused"):
        nowhere.status()
    # Nobody knows whether a job without a name was taken on.
    with pytest.raises(envmill.Unreachable, match="not there: .*refused"):
        nowhere.rollouts(job())
    for ask in (
        lambda: nowhere.rollouts(job(name="named"), reconnect_s=0.3),
        lambda: nowhere.attach("a.1", reconnect_s=0.3),
        lambda: nowhere.policy("a.1", reconnect_s=0.3),
    ):
        with pytest.raises(envmill.Unreachable, match="refused"):
            ask()


def test_ctrl_c_ends_a_wait() -> None:
    code = """
import os, signal, sys, threading, envmill
client = envmill.Client(f"http://127.0.0.1:{sys.argv[1]}")
signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    client.attach("a.1", reconnect_s=3600)
except KeyboardInterrupt:
    print("interrupted")
"""
    assert python(code, str(free_port())).stdout == "interrupted\n"


def test_event_loops_wait_without_threads() -> None:
    code = """
import asyncio, os, sys, envmill
async def main():
    client = envmill.Client(f"http://127.0.0.1:{sys.argv[1]}")
    waiting = [asyncio.create_task(client.aattach("a.1", reconnect_s=3600)) for _ in range(50)]
    await asyncio.sleep(0.3)
    threads = sorted(open(f"/proc/self/task/{it}/comm").read() for it in os.listdir("/proc/self/task"))
    assert len(threads) == 2 and "envmill-client\\n" in threads, threads
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    try:
        await asyncio.wait_for(client.aattach("a.1", reconnect_s=0.2), 60)
    except envmill.Unreachable:
        print("unreachable")
asyncio.run(main())
asyncio.run(main())
"""
    assert python(code, str(free_port())).stdout == "unreachable\n" * 2


def test_a_fork_is_told_to_make_a_client_of_its_own(nowhere: envmill.Client) -> None:
    with pytest.raises(envmill.Unreachable):
        nowhere.status()
    told = forked(nowhere.status)
    assert told.startswith(f"RuntimeError: this client belongs to process {os.getpid()}, which forked")
    assert "envmill.Client()" in told

    def of_its_own() -> dict[str, Any]:
        return envmill.Client(nowhere.url).status()

    assert forked(of_its_own).startswith("Unreachable: ")


def test_ranges_are_what_is_sent() -> None:
    from envmill._rollouts import numbers_of, ranges

    assert ranges([5, 1, 2, 3, 9, 8, 2]) == [(1, 3), (5, 5), (8, 9)]
    assert numbers_of(7) == [7]
    assert numbers_of(numpy.array([3, 1])) == [3, 1]
    assert numbers_of([numpy.int64(3), range(2)]) == [3, 0, 1]
    with pytest.raises(ValueError, match="comes from a file"):
        numbers_of(next(iter(envmill.run("native:echo", episodes=1, max_steps=1).records)))
    with pytest.raises(TypeError):
        numbers_of("12.5")


LINE = {
    "schema_version": 1, "trajectory_id": "maze-3-1", "job_id": "maze", "group_id": 3,
    "sample_index": 1, "task_id": "", "environment": "maze", "branch_id": 0, "parent_branch": None,
    "agent_id": 0, "seed": 17, "reset_parameters": None,
    "provenance": {"server": "s", "session_id": "s5-2", "episode_in_session": 4,
                   "environment_fingerprint": "9f"},
    "attempts": [{"server": "s", "started_us": 1, "ended_us": 2, "steps": 1, "cause": "disconnected",
                  "message": "broke"}],
    "reset": None,
    "steps": [
        {"action": {}, "observation": 1, "reward": 0.5, "environment_us": 1, "policy_us": 2},
        {"action": {}, "observation": 2, "reward": None, "environment_us": 1, "policy_us": 2},
    ],
    "reward": 0.5, "reward_components": {}, "end": {"kind": "completed", "cause": "terminated"},
    "tokens": {"token_ids": [1, 887, 13, 40], "prompt_len": 3, "loss_mask": [0, 0, 0, 1],
               "logprobs": [0.0, 0.0, 0.0, -0.5],
               "policy_versions": [{"version": (2 << 48) + 12, "tokens": 4}]},
    "generations": [{"prompt_token_ids": [1, 887, 13], "token_ids": [40], "logprobs": [-0.5],
                     "loss_mask": [1], "policy_versions": [{"version": 12, "tokens": 1}],
                     "parent": None, "kind": "agent"}],
    "turns": [{"role": "assistant", "start": 3, "end": 4, "tool": "", "finish_reason": "stop",
               "generation_us": 7, "environment_us": 8, "queue_us": 9}],
    "messages": [{"role": "user"}], "sampling": {"temperature": 1.0},
    "blobs": [{"name": "routed", "dtype": "int16", "shape": [2, 1, 2], "data": "AAADAAEAAgA="},
              {"name": "wrong", "dtype": "int16", "shape": [3], "data": "AAADAAEAAgA="},
              {"name": "unheard", "dtype": "float3", "shape": [8], "data": "AAADAAEAAgA="}],
    "metrics": {}, "timing": {"run_started_unix_us": 5, "started_us": 6, "reset_us": 7, "ended_us": 8,
                              "policy_version_started": 3, "policy_version_ended": (1 << 48) + 4},
    "content_hash": "3080082d8fab3ad930989c52a751b99c",
}  # fmt: skip


def test_arrays_share_the_memory_of_their_record() -> None:
    record = envmill.Record.from_json(json.dumps(LINE).encode())
    for array, dtype, values in (
        (record.token_ids, "uint32", [1, 887, 13, 40]),
        (record.loss_mask, "uint8", [0, 0, 0, 1]),
        (record.logprobs, "float32", [0.0, 0.0, 0.0, -0.5]),
        (record.generations[0].prompt_token_ids, "uint32", [1, 887, 13]),
        (record.generations[0].token_ids, "uint32", [40]),
        (record.generations[0].logprobs, "float32", [-0.5]),
        (record.generations[0].loss_mask, "uint8", [1]),
        (record.blobs["routed"].array, "int16", [[[0, 3]], [[1, 2]]]),
    ):
        assert array.dtype == dtype
        assert array.tolist() == values
        assert not array.flags.writeable
        assert not array.flags.owndata
    one, other = record.token_ids, record.token_ids
    assert one.__array_interface__["data"] == other.__array_interface__["data"]
    assert record.rewards.tolist()[0] == 0.5
    assert numpy.isnan(record.rewards[1])
    del record
    assert one.tolist() == [1, 887, 13, 40]
    with pytest.raises(ValueError, match="read-only"):
        one[0] = 2


@pytest.mark.parametrize(
    "name",
    ["bool", "int8", "uint8", "int16", "uint16", "float16", "int32", "uint32", "float32", "int64", "uint64",
     "float64", "complex64", "complex128", "datetime64[s]"],
)  # fmt: skip
def test_a_blob_of_any_type_is_what_numpy_makes_of_its_bytes(name: str) -> None:
    data = bytes(range(16))
    length = len(data) // numpy.dtype(name).itemsize
    encoded = base64.b64encode(data).decode()
    blob = {"name": "it", "dtype": name, "shape": [length], "data": encoded}
    record = envmill.Record.from_json(json.dumps({**LINE, "blobs": [blob]}).encode())
    array = record.blobs["it"].array
    assert (array.dtype, array.shape) == (numpy.dtype(name), (length,))
    assert array.tobytes() == data


def test_every_field_of_a_record_is_there() -> None:
    record = envmill.Record.from_json(json.dumps(LINE).encode())
    assert (record.branch_id, record.parent_branch, record.agent_id) == (0, None, 0)
    assert (record.session_id, record.episode_in_session) == ("s5-2", 4)
    assert record.environment_fingerprint == "9f"
    (attempt,) = record.attempts
    assert (attempt.started_us, attempt.cause, attempt.message) == (1, "disconnected", "broke")
    assert record.policy_versions == [(envmill.Version(12, lineage=2), 4)]
    assert record.generations[0].policy_versions == [(envmill.Version(12), 1)]
    assert (record.generations[0].parent, record.generations[0].kind) == (None, "agent")
    assert record.generations is record.generations
    (turn,) = record.turns
    assert (turn.role, turn.start, turn.end, turn.finish_reason) == ("assistant", 3, 4, "stop")
    assert (record.messages, record.sampling) == ([{"role": "user"}], {"temperature": 1.0})
    blob = record.blobs["routed"]
    assert (blob.name, blob.dtype, blob.shape, len(blob.data)) == ("routed", "int16", (2, 1, 2), 8)
    with pytest.raises(ValueError, match="8 bytes are no array"):
        record.blobs["wrong"].array  # noqa: B018
    with pytest.raises(TypeError, match="float3"):
        record.blobs["unheard"].array  # noqa: B018
    assert record.timing.policy_version_ended == envmill.Version(4, lineage=1)
    assert record.timing.ended_us == 8
    assert record.delivery is None


def test_versions_have_an_order() -> None:
    assert envmill.Version(3) < envmill.Version(4) < envmill.Version(1, lineage=1)
    assert {envmill.Version(3), envmill.Version(3, 0)} == {envmill.Version(3)}
    assert pickle.loads(pickle.dumps(envmill.Version(3, 1))) == envmill.Version(3, 1)


# What a service does.


def test_it_is_told_what_there_is(client: envmill.Client) -> None:
    by_name = {it["name"]: it for it in client.environments()}
    assert set(by_name) == {"cartpole", "slow"}
    assert by_name["cartpole"]["sessions_max"] == 64
    assert by_name["cartpole"]["action_schema"]["type"] == "object"
    status = client.status()
    assert status["engine_version"] == envmill.__version__
    assert not status["draining"]


def test_every_episode_comes_once(client: envmill.Client) -> None:
    with client.rollouts(job(name="once", policy="random")) as rollouts:
        assert rollouts.job_id.startswith("once.")
        accepted = rollouts.accepted["job"]
        assert (accepted["episodes"], accepted["policy"]) == (20, "random")
        assert accepted["delivery"]["order"] == "as_finished"
        records = []
        for record in rollouts:
            records.append(record)
            rollouts.ack(record, wait=False)
        assert rollouts.end is not None
        assert (rollouts.end.requested, rollouts.end.completed) == (20, 20)
    assert sorted(record.seed for record in records) == list(range(3, 23))
    assert len({record.trajectory_id for record in records}) == 20
    assert all(type(record) is envmill.Record for record in records)
    assert all(record.delivery is not None for record in records)
    again = pickle.loads(pickle.dumps(records[0]))
    assert again.to_json() == records[0].to_json()
    assert again.delivery.number == records[0].delivery.number
    # The same as a run of its own plays.
    run = envmill.run("native:cartpole", episodes=20, seed=3)
    hashes = {record.seed: record.content_hash for record in run.records}
    assert {record.seed: record.content_hash for record in records} == hashes
    until(lambda: rollouts.job_id not in owed(client))


def owed(client: envmill.Client) -> set[str]:
    """Jobs of which something was not acknowledged."""
    jobs = client.status()["jobs"]
    return {it["progress"]["job_id"] for it in jobs if not it["ended"] or it["progress"]["waiting"]}


def test_what_came_of_tasks_is_told(client: envmill.Client) -> None:
    asked = job(
        name="sampled",
        episodes=0,
        group_rules={"samples": 2},
        tasks=[{"id": "a"}, {"id": "b", "weight": 2.0}],
        epochs=2,
        sampling={},
        policy="random",
    )
    with client.rollouts(asked) as rollouts:
        assert rollouts.accepted["job"]["groups"] == 6
        assert len(list(rollouts)) == 12
        told = client.tasks(rollouts.job_id)
    assert (told["total"], [it["id"] for it in told["tasks"]]) == (2, ["a", "b"])
    assert [it["groups"] for it in told["tasks"]] == [2, 4]
    assert client.tasks(rollouts.job_id, 1)["tasks"] == told["tasks"][1:]
    with pytest.raises(envmill.Refused, match="there is no"):
        client.tasks("nobody.1")


def test_what_is_refused_says_why(client: envmill.Client) -> None:
    with pytest.raises(envmill.Refused, match="cartpole") as refused:
        client.rollouts(job(environment="cartpol"))
    assert refused.value.code == "invalid_argument"
    with pytest.raises(envmill.Refused) as refused:
        client.attach("nothing.1")
    assert refused.value.code == "not_found"
    assert pickle.loads(pickle.dumps(refused.value)).code == "not_found"
    with client.rollouts(job()) as rollouts:
        with pytest.raises(envmill.Refused):
            rollouts.ack(1_000_000)
        rollouts.ack(1_000_001, wait=False)
        with pytest.raises(envmill.Refused):
            rollouts.close()
        with pytest.raises(ValueError, match="did you mean 'keep'"):
            rollouts.publish_version(3, in_flight="kep")


def test_what_was_not_acknowledged_comes_again(client: envmill.Client) -> None:
    with client.rollouts(job()) as rollouts:
        kept = [next(rollouts) for _ in range(5)]
        rollouts.ack(kept)
        lost = [next(rollouts) for _ in range(5)]
    with client.attach(rollouts.job_id) as rollouts:
        again = {record.trajectory_id: record for record in rollouts}
        rollouts.ack(again.values())
    assert len(again) == 15
    assert all(again[record.trajectory_id].delivery.redelivered for record in lost)
    assert not {record.trajectory_id for record in kept} & set(again)


def test_groups_come_as_a_whole(client: envmill.Client) -> None:
    asked = job(
        episodes=None,
        groups=5,
        group_rules={"samples": 4},
        delivery={"order": "by_group"},
    )
    with client.rollouts(asked) as rollouts:
        seen = []
        events = rollouts.events()
        for event in events:
            if not isinstance(event, envmill.Notice):
                seen.append(event)
                rollouts.ack(event, wait=False)
        assert list(events) == []
    groups = [event for event in seen if isinstance(event, envmill.GroupRecord)]
    assert {group.outcome for group in groups} == {"complete"}
    assert all(len(group.members) == 4 for group in groups)
    assert groups[0].members[0]["end"]["kind"] == "completed"
    ends = [event for event in seen if isinstance(event, envmill.JobEnd)]
    assert [(end.requested, end.groups) for end in ends] == [(20, 5)]
    of = [event.group_id for event in seen if isinstance(event, envmill.Record)]
    assert sum(one != other for one, other in zip(of, of[1:], strict=False)) == 4


def test_batches_are_split_among_ranks(client: envmill.Client) -> None:
    asked = job(
        name="batches",
        episodes=None,
        groups=6,
        group_rules={"samples": 2},
        delivery={"order": "batches", "world": 2},
    )
    with client.rollouts(asked) as zero, client.attach(zero.job_id, rank=1) as one:
        with pytest.raises(RuntimeError, match="next_batch"):
            next(iter(zero))
        shares: dict[int, list[Any]] = {0: [], 1: []}

        def take(rank: int, rollouts: envmill.Rollouts) -> None:
            index = 0
            while (records := rollouts.next_batch(index, 2)) is not None:
                shares[rank].append([record.group_id for record in records])
                rollouts.ack(records)
                index += 1

        threads = [threading.Thread(target=take, args=it, daemon=True) for it in ((0, zero), (1, one))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [len(share) for share in shares[0] + shares[1]] == [2] * 6
    assert {group for share in shares[0] + shares[1] for group in share} == set(range(6))


def test_a_trainer_goes_back_to_a_checkpoint(client: envmill.Client) -> None:
    asked = job(episodes=9, delivery={"retention": "until_durable"})
    with client.rollouts(asked) as rollouts:
        first = [next(rollouts) for _ in range(3)]
        rollouts.ack(first, "one")
        rollouts.durable("one")
        second = [next(rollouts) for _ in range(3)]
        rollouts.ack(second, "two")
        rest = list(rollouts)
        rollouts.ack(rest, "three")
        rollouts.rewind("one")
        rollouts.publish_version(1, lineage=1)
        again = list(rollouts)
        names = {record.trajectory_id for record in again}
        assert names == {record.trajectory_id for record in second + rest}
        with pytest.raises(envmill.Refused):
            rollouts.rewind("never")
        rollouts.ack(again, "four")
        rollouts.durable("four")


def test_going_back_gives_everything_once(client: envmill.Client) -> None:
    with client.rollouts(job(delivery={"retention": "until_durable"})) as rollouts:
        for _ in range(5):
            next(rollouts)
        # By now others have come that nobody has taken.
        until(lambda: client_progress(client, rollouts.job_id)["recorded"] == 20)
        with pytest.raises(envmill.Refused):
            rollouts.rewind("never")
        assert names_of(rollouts) == names_of(rollouts.rewind() or rollouts)
        rollouts.rewind()
        rollouts.ack(list(rollouts), "one")
        rollouts.durable("one")
        with pytest.raises(envmill.Refused):
            rollouts.rewind("never")
        assert list(rollouts) == []
    # A job that is settled has nothing more to say.
    with client.attach(rollouts.job_id) as rollouts:
        assert list(rollouts) == list(rollouts.events()) == []


def names_of(rollouts: envmill.Rollouts) -> list[str]:
    names = [record.trajectory_id for record in rollouts]
    assert len(set(names)) == len(names) == 20
    return sorted(names)


def client_progress(client: envmill.Client, job_id: str) -> dict[str, Any]:
    (progress,) = (
        it["progress"] for it in client.status()["jobs"] if it["progress"]["job_id"] == job_id
    )
    return dict(progress)


def test_a_job_can_be_cancelled(client: envmill.Client) -> None:
    with client.rollouts(job(environment="slow", episodes=5_000)) as rollouts:
        next(rollouts)
        rollouts.pause()
        until(lambda: bool(rollouts.progress and rollouts.progress["paused"]))
        rollouts.resume()
        rollouts.cancel()
        kinds = {record.end.kind for record in rollouts}
        assert rollouts.end is not None
        assert "cancelled" in kinds
        assert rollouts.end.cancelled > 4_000


def test_a_trainer_is_the_policy(client: envmill.Client) -> None:
    with client.rollouts(job(policy="trainer", limits={"max_steps": 7})) as rollouts:
        with client.policy(rollouts.job_id, min_batch=4) as policy:
            for turns in policy:
                assert json.loads(turns[0].observation_bytes) == turns[0].observation
                actions: list[Any] = [{"action": turn.step % 2} for turn in turns]
                for place, turn in enumerate(turns):
                    if turn.episode == 5 and turn.step == 2:
                        actions[place] = ValueError("no idea")
                policy.answer(
                    turns,
                    actions,
                    versions=envmill.Version(0),
                    prompt_token_ids=[[1, 2]] * len(turns),
                    token_ids=[numpy.array([3, 4, 5], dtype=numpy.uint32)] * len(turns),
                    logprobs=[numpy.full(3, -0.5, dtype=numpy.float32)] * len(turns),
                )
            with pytest.raises(ValueError, match="actions: 1 for 2 turns"):
                policy.answer([1, 2], [{}])
            for given, problem in ANSWERS_THAT_ARE_NONE:
                with pytest.raises(ValueError, match=problem):
                    policy.answer([1], [{}], **given)
        records = list(rollouts)
        rollouts.ack(records)
    assert len(records) == 20
    failed = [record for record in records if record.end.kind == "failed"]
    assert [(it.end.cause, "no idea" in it.end.message) for it in failed] == [("policy", True)]
    for record in records:
        if record.end.kind != "failed":
            assert [step.action for step in record.steps] == [
                {"action": number % 2} for number in range(len(record.steps))
            ]
            generation = record.generations[-1]
            assert generation.token_ids.tolist() == [3, 4, 5]
            assert generation.prompt_token_ids.tolist() == [1, 2]
            assert generation.logprobs.tolist() == [-0.5] * 3


def test_a_trainer_sees_tasks_and_says_all_that_it_generated(client: envmill.Client) -> None:
    tasks = [{"id": f"t{at}", "parameters": {"seed": 50 + at}} for at in range(3)]
    asked = job(episodes=0, groups=3, tasks=tasks, policy="trainer", limits={"max_steps": 3})
    asked["group_rules"] = {"samples": 2}
    starts: dict[int, envmill.EpisodeStart] = {}
    with client.rollouts(asked) as rollouts:
        with client.policy(rollouts.job_id) as policy:
            for turns in policy:
                for turn in turns:
                    assert turn.group_id * 2 + turn.sample_index == turn.episode
                    assert (turn.start is not None) == (turn.step == 0)
                    if turn.start is not None:
                        starts[turn.episode] = turn.start
                    mine, actions = [turn], [{"action": 1}]
                    if turn.step == 0:
                        mask = numpy.array([1, 0], dtype=numpy.uint8)
                        bad = envmill.Generated(
                            prompt_token_ids=[1], token_ids=[8, 9], kind="discarded"
                        )
                        good = envmill.Generated(
                            prompt_token_ids=[1],
                            token_ids=[3, 4],
                            loss_mask=mask,
                            logprobs=[-0.5, -1.0],
                            finish_reason="stop",
                            tool="search",
                            generation_us=1500,
                            queue_us=20,
                        )
                        policy.answer(mine, actions, generations=[[bad, good]])
                    elif turn.step == 1:
                        policy.answer(
                            mine,
                            actions,
                            prompt_token_ids=[[1, 3, 4, 5]],
                            token_ids=[[]],
                            parent=[1],
                            kind="auxiliary",
                        )
                    else:
                        policy.answer(mine, actions)
        records = [record for record in rollouts if isinstance(record, envmill.Record)]
        rollouts.ack(records)
    assert len(records) == 6
    for record in records:
        start = starts[record.group_id * 2 + record.sample_index]
        assert (start.task_id, start.reset_parameters) == (record.task_id, record.reset_parameters)
        assert record.reset_parameters == {"seed": record.seed}
        assert record.seed == 50 + int(record.task_id[1:])
        discarded, kept, nothing, unknown = record.generations
        assert [discarded.kind, kept.kind, nothing.kind] == ["discarded", "agent", "auxiliary"]
        assert (kept.loss_mask.tolist(), nothing.parent) == ([1, 0], 1)
        assert (kept.step, kept.finish_reason, kept.tool) == (0, "stop", "search")
        assert (kept.generation_us, kept.queue_us) == (1500, 20)
        assert [it.is_known for it in record.generations] == [True, True, True, False]
        assert len(nothing.token_ids) == len(unknown.token_ids) == 0
        assert record.token_ids.tolist() == [1, 3, 4]


ANSWERS_THAT_ARE_NONE: list[tuple[dict[str, Any], str]] = [
    ({"token_ids": [[1, 2]], "logprobs": [[-0.5]]}, "turn 1: logprobs has 1 entries for 2 tokens"),
    ({"token_ids": [[1, 2]], "loss_mask": [[1]]}, "turn 1: loss_mask has 1 entries for 2 tokens"),
    ({"token_ids": [[1]], "loss_mask": [[2]]}, "turn 1: loss_mask has 1 for tokens"),
    ({"token_ids": [[]]}, "nothing was sampled, for no prompt"),
    ({"prompt_token_ids": [[1]]}, "prompt_token_ids without token_ids"),
    ({"token_ids": [[1]], "kind": "dream"}, "kind is agent, auxiliary, discarded, and not 'dream'"),
    ({"token_ids": [[1]], "parent": [-1]}, "parent is the index"),
    ({"token_ids": [[1], [2]]}, "token_ids: 2 for 1 turns"),
    ({"generations": [[]], "kind": "agent"}, "either generations or kind"),
    ({"generations": [{"token_ids": [1]}]}, "a list of mappings for each turn"),
    ({"generations": [[{"token_id": [1]}]]}, "generation 0: there is no 'token_id'; did you mean"),
    (
        {
            "generations": [
                [{"token_ids": [1], "policy_versions": [(envmill.Version(1), 2)]}],
            ]
        },
        "policy_versions covers 2 of 1 tokens",
    ),
]
"""Arguments of ``Policy.answer``, and what is said to them."""


def test_another_policy_takes_its_place(client: envmill.Client) -> None:
    with client.rollouts(job(policy="trainer", episodes=2)) as rollouts:
        with client.policy(rollouts.job_id) as first:
            next(first)
            with client.policy(rollouts.job_id) as second:
                assert next(second)
                with pytest.raises(envmill.Refused) as refused:
                    list(first)
                assert refused.value.code == "aborted"
        rollouts.cancel()


def test_event_loops_play(service: Service) -> None:
    async def main() -> None:
        async with envmill.Client(service.url) as client:
            assert len(await client.aenvironments()) == 2
            asked = job(policy="trainer", limits={"max_steps": 5})
            async with await client.arollouts(asked) as rollouts:

                async def play() -> None:
                    async with await client.apolicy(rollouts.job_id) as policy:
                        async for turns in policy:
                            await policy.aanswer(turns, [b'{"action": 1}'] * len(turns))

                playing = asyncio.create_task(play())
                seen = set()
                async for record in rollouts:
                    seen.add(record.seed)
                    await rollouts.aack(record)
                assert seen == set(range(3, 23))
                await playing
            # A wait that is given up loses nothing.
            async with await client.arollouts(job(environment="slow", episodes=3)) as rollouts:
                count = 0
                while count < 3:
                    try:
                        await asyncio.wait_for(anext(rollouts), 0.01)
                        count += 1
                    except asyncio.TimeoutError:
                        pass
                assert [record async for record in rollouts] == []
                await rollouts.apublish_version(1)
            with pytest.raises(envmill.Refused):
                await client.aattach("nothing.1")

    asyncio.run(main())


def test_several_threads_share_a_job(client: envmill.Client) -> None:
    seen: list[str] = []
    with client.rollouts(job(episodes=200), window_records=16) as rollouts:

        def work() -> None:
            for record in rollouts:
                seen.append(record.trajectory_id)
                rollouts.ack(record, wait=False)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(seen) == len(set(seen)) == 200


def test_ctrl_c_ends_an_iteration_and_not_the_job(client: envmill.Client) -> None:
    asked = job(environment="slow", episodes=100_000)
    with client.rollouts(asked) as rollouts:
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            for _ in rollouts:
                pass
        assert next(rollouts).end.kind == "completed"
        rollouts.cancel()


def test_a_fork_cannot_use_what_is_open(client: envmill.Client) -> None:
    with client.rollouts(job(policy="trainer")) as rollouts:
        with client.policy(rollouts.job_id) as policy:
            next(policy)
            for use in (lambda: next(rollouts), rollouts.pause, lambda: rollouts.ack(1)):
                told = forked(use)
                assert told.startswith("RuntimeError: this stream of records belongs to process"), told
                assert "attach" in told
            assert forked(lambda: next(policy)).startswith("RuntimeError: this policy belongs")
            url, job_id = client.url, rollouts.job_id
            assert forked(lambda: envmill.Client(url).attach(job_id).job_id) == repr(job_id)
            # What was forked has ended, and taken nothing with it but the place in the job.
            assert policy.version is not None
    with client.attach(rollouts.job_id) as rollouts:
        rollouts.cancel()
        assert len(list(rollouts)) == 20


def test_a_service_that_was_killed_goes_on(tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.start()
    try:
        client = envmill.Client(service.url)
        with client.rollouts(job(environment="slow", episodes=60, policy="trainer")) as rollouts:
            policy = client.policy(rollouts.job_id)
            actions = json.dumps({"value": 0})

            def play() -> None:
                for turns in policy:
                    policy.answer(turns, [actions] * len(turns))

            thread = threading.Thread(target=play, daemon=True)
            thread.start()
            records = [next(rollouts) for _ in range(10)]
            rollouts.ack(records)
            service.kill()
            service.start()
            for record in rollouts:
                records.append(record)
                rollouts.ack(record)
            thread.join()
        assert len({record.trajectory_id for record in records}) == len(records) == 60
    finally:
        service.end()


# Through shared memory.


def test_arrays_are_looked_at_where_the_service_has_put_them(client: envmill.Client) -> None:
    with client.rollouts(job(), shared_memory=1 << 20) as rollouts:
        records = list(rollouts)
        with client.attach(rollouts.job_id) as streamed:
            without = {record.trajectory_id: record for record in streamed}
    assert len(records) == 20
    for record in records:
        assert record.in_place
        rewards = record.rewards
        assert not rewards.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            rewards.flags.writeable = True
        same = without[record.trajectory_id]
        assert not same.in_place
        assert rewards.tolist() == same.rewards.tolist()
        assert record.to_dict() == same.to_dict()
        copied = record.copy()
        assert not copied.in_place
        assert copied.delivery == record.delivery
        assert pickle.loads(pickle.dumps(record)).to_json() == same.to_json() == copied.to_json()
    kept = records[0].rewards
    before = kept.tolist()
    del record, rewards, records
    assert kept.tolist() == before


def test_who_keeps_records_gets_the_others_too(client: envmill.Client) -> None:
    with client.rollouts(job(episodes=100), shared_memory=32 << 10) as rollouts:
        records = list(rollouts)
        assert len({record.trajectory_id for record in records}) == 100
        kept = sum(record.in_place for record in records)
        assert 0 < kept < 100


def test_a_fork_does_not_give_back_what_it_has_not_taken(client: envmill.Client) -> None:
    with client.rollouts(job(), shared_memory=1 << 20) as rollouts:
        record = next(rollouts)
        told = forked(lambda: record.rewards)
        assert told.startswith("RuntimeError: this record belongs to process")
        assert "before the fork" in told
        assert forked(lambda: record.copy().seed).startswith("RuntimeError")
        assert record.copy().to_json() == record.to_json()
        assert len(list(rollouts)) == 19


def test_memory_is_shared_with_a_service_that_was_killed_again(tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.start()
    try:
        client = envmill.Client(service.url)
        asked = job(environment="slow", episodes=60)
        with client.rollouts(asked, shared_memory=1 << 20) as rollouts:
            records = [next(rollouts) for _ in range(10)]
            rollouts.ack(records)
            service.kill()
            # What it has put there stays.
            assert all(record.in_place and record.to_json() for record in records)
            service.start()
            for record in rollouts:
                records.append(record)
                rollouts.ack(record)
        assert len({record.trajectory_id for record in records}) == len(records) == 60
        assert records[-1].in_place
    finally:
        service.end()
