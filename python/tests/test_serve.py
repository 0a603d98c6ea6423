"""`envmill.serve`."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import bench_env
import pytest
from conftest import REPOSITORY, SERVERS, STUBS, descendants, is_running, until
from openenv.core import GenericEnvClient

import envmill


def is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health") as answer:
            return answer.status == 200
    except OSError:
        return False


async def played(url: str, steps: int) -> list[dict[str, object]]:
    client = GenericEnvClient(base_url=url)
    await client.connect()
    try:
        await client.reset(seed=1)
        results = [await client.step({"payload_bytes": number}) for number in range(steps)]
        state = await client.state()
        assert state["step_count"] == steps
        return [result.observation for result in results]
    finally:
        await client.close()


def test_the_stock_client_plays_a_class() -> None:
    with envmill.serve(bench_env.BenchEnv, port=0, processes=2, block=False) as server:
        assert is_up(server.url)

        async def together() -> list[list[dict[str, object]]]:
            return await asyncio.gather(*[played(server.url, 4) for _ in range(6)])

        sessions = asyncio.run(together())
        assert [[shown["step"] for shown in session] for session in sessions] == [[1, 2, 3, 4]] * 6
        assert [len(str(shown["payload"])) for shown in sessions[0]] == [0, 1, 2, 3]
        pids = {shown["pid"] for session in sessions for shown in session}
        assert len(pids) == 2
        assert os.getpid() not in pids
        assert repr(server) == f"<envmill.Server of openenv-class:bench_env:BenchEnv at {server.url}>"
    assert not is_up(server.url)
    server.close()


def test_the_flow_of_the_stock_client() -> None:
    with envmill.serve(bench_env.BenchEnv, port=0, block=False) as server:
        flow = REPOSITORY / "testing" / "python" / "stock_client_flow.py"
        done = subprocess.run(
            [sys.executable, str(flow), server.url, "--sessions", "2", "--steps", "3"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


def test_a_run_plays_on_a_server() -> None:
    with envmill.serve("native:cartpole", port=0, block=False) as server:
        run = envmill.run(server.url, episodes=5, sessions=2)
        assert run.summary["episodes"]["completed"] == 5
        assert run.records[0].server == server.url


def test_the_number_of_sessions_can_be_bounded() -> None:
    with envmill.serve("native:echo", port=0, max_sessions=3, block=False) as server:

        async def one_too_many() -> None:
            held = [GenericEnvClient(base_url=server.url) for _ in range(3)]
            for client in held:
                await client.connect()
                await client.reset()
            fourth = GenericEnvClient(base_url=server.url)
            await fourth.connect()
            with pytest.raises(RuntimeError, match="CAPACITY_REACHED"):
                await fourth.reset()
            for client in [*held, fourth]:
                await client.close()

        asyncio.run(one_too_many())
        # Who wants more sessions than there are learns how many there are.
        run = envmill.run(server.url, episodes=12, sessions=8, max_steps=2)
        assert run.summary["episodes"]["truncated"] == 12


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(envmill.EnvmillError, match=f"cannot listen on 127.0.0.1:{port}"):
            envmill.serve("native:echo", port=port, block=False)


def test_what_cannot_be_served_is_named() -> None:
    with pytest.raises(envmill.EnvmillError, match="cartpole"):
        envmill.serve("native:carpole", port=0, block=False)
    with pytest.raises(envmill.EnvmillError, match="loopback only"):
        envmill.serve("native:echo", host="0.0.0.0", port=0, block=False)
    with pytest.raises(envmill.EnvmillError, match="no_such_module"):
        envmill.serve("openenv-class:no_such_module:Env", port=0, block=False)
    # Refused before the server has a say.
    with pytest.raises(envmill.EnvmillError, match="standard error"):
        envmill.serve("native:echo", host="nowhere", port=0, block=False)


def test_a_server_goes_with_its_object() -> None:
    server = envmill.serve("native:echo", port=0, block=False)
    url = server.url
    assert is_up(url)
    del server
    gc.collect()
    assert not is_up(url)


def test_waiting_tells_how_it_ended() -> None:
    with envmill.serve("native:echo", port=0, block=False) as server:
        with pytest.raises(TimeoutError):
            server.wait(0.05)
        (pid,) = (pid for pid in descendants(os.getpid()) if server.url and is_server(pid))
        os.kill(pid, signal.SIGABRT)
        with pytest.raises(envmill.EnvmillError, match="ended with status -6"):
            server.wait()


def is_server(pid: int) -> bool:
    return b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes()


BLOCKING = """
import sys
sys.path[:0] = sys.argv[1:]
import bench_env, envmill
envmill.serve(bench_env.BenchEnv, port=0, processes=1)
print("ended")
"""


def blocking() -> tuple[subprocess.Popen[str], str, set[int]]:
    """A process that serves and waits: itself, where it serves, and its descendants."""
    serving = subprocess.Popen(
        [sys.executable, "-c", BLOCKING, str(STUBS), str(SERVERS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert serving.stderr is not None
    told = serving.stderr.readline()
    assert told.startswith("envmill: openenv-class:bench_env:BenchEnv at http"), told
    url = told.split(" at ")[1].split(";")[0]
    until(lambda: is_up(url))
    # The server, the nursery, a worker.
    until(lambda: len(descendants(serving.pid)) >= 3)
    return serving, url, descendants(serving.pid)


def test_ctrl_c_ends_a_server_that_is_waited_for() -> None:
    serving, url, started = blocking()
    serving.send_signal(signal.SIGINT)
    stdout, stderr = serving.communicate()
    assert (serving.returncode, stdout) == (0, "ended\n"), stderr
    assert "Traceback" not in stderr
    assert not is_up(url)
    until(lambda: not any(is_running(pid) for pid in started))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_of_a_killed_process(how: signal.Signals) -> None:
    serving, url, started = blocking()
    serving.send_signal(how)
    serving.communicate()
    until(lambda: not any(is_running(pid) for pid in started))
    assert not is_up(url)
