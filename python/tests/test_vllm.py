"""The plug-in for vLLM, without vLLM: an engine's end talks with it over real rings."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import random
import stat
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import vllm_fake
from vllm_fake import Client, span

import envmill_ring as ring
from envmill_vllm import Plugin, rows
from envmill_vllm.door import Door
from envmill_vllm.engine import Engine, failure
from envmill_vllm.plugin import socket_path

Play = Callable[[Door, Client], Awaitable[None]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Play], None]:
    """Plays a test in an event loop that runs the plug-in."""
    vllm_fake.install(monkeypatch)

    async def inside(test: Play) -> None:
        client = Client()
        door = Door(tmp_path / "socket", Engine(client), asyncio.get_running_loop())
        try:
            await asyncio.wait_for(test(door, client), 60)
        finally:
            door.close()

    return lambda test: asyncio.run(inside(test))


def generate(number: int, token: int, most: int, flags: int = rows.LOGPROBS) -> rows.Ask:
    return rows.Ask(number, rows.GENERATE, flags, max_tokens=most, tokens=[token, 5])


def test_a_batch_of_requests_is_answered_in_one(play):
    async def test(door: Door, client: Client) -> None:
        engine = await vllm_fake.Engine(door.path).met()
        assert stat.S_IMODE(door.path.stat().st_mode) == 0o600
        engine.ask(generate(1, 7, 3), generate(2, 8, 2, 0), generate(3, 4095, 2))
        told = {it["number"]: it for it in await engine.told()}
        assert (told[1]["tokens"], told[1]["logprobs"]) == ([7, 7, 7], [-0.5] * 3)
        assert (told[2]["tokens"], told[2]["logprobs"]) == ([8, 8], [])
        assert (told[1]["kind"], told[1]["why"], told[1]["cached"]) == (rows.END, rows.LENGTH, 3)
        assert told[1]["versions"] == span(0, 3)
        assert (told[3]["kind"], told[3]["why"]) == (rows.FAILED, rows.REFUSED)
        assert b"no token 4095" in told[3]["text"]
        engine.close()

    play(test)


def test_the_time_in_the_queue_is_told_where_vllm_keeps_it(play):
    async def test(door: Door, client: Client) -> None:
        engine = await vllm_fake.Engine(door.path).met()
        times = [client.metrics, None, SimpleNamespace(queued_ts=100.0, scheduled_ts=0.0)]
        told = []
        for number, client.metrics in enumerate(times):
            engine.ask(generate(number, 7, 1))
            told.append((await engine.outcome(number))["queue_us"])
        assert told == [250_000, rows.NO_TIME, rows.NO_TIME]
        engine.close()

    play(test)


class App:
    """FastAPI, as far as the plug-in needs it."""

    def __init__(self) -> None:
        self.routes: dict[str, Any] = {}

    def add_api_route(self, path: str, endpoint: Any, **_: Any) -> None:
        self.routes[path] = endpoint


def test_engines_are_told_over_http_where_the_socket_is(monkeypatch, tmp_path):
    vllm_fake.install(monkeypatch)
    monkeypatch.setenv("ENVMILL_VLLM_SOCKET", str(tmp_path / "socket"))

    async def test() -> None:
        app, plugin, state = App(), Plugin(), SimpleNamespace()
        plugin.attach_router(app)
        tell = app.routes["/v1/envmill"]
        assert (await tell())["socket"] is None
        await plugin.init_state(None, state, SimpleNamespace(port=8000))
        assert (await tell())["socket"] is None
        await plugin.init_state(Client(), state, SimpleNamespace(port=8000, api_server_count=1))
        offer = await tell()
        assert (offer["version"], offer["port"]) == (rows.VERSION, 8000)
        assert offer["socket"] == str(tmp_path / "socket")
        engine = await vllm_fake.Engine(Path(offer["socket"])).met()
        assert engine.name == offer["engine"] != ""
        engine.close()
        # Another vLLM that finds the socket taken offers nothing; a sibling says what the first says.
        other = Plugin()
        await other.init_state(Client(), SimpleNamespace(), SimpleNamespace(port=8001))
        assert (await other.tell())["socket"] is None
        siblings = [Plugin(), Plugin()]
        for sibling in siblings:
            args = SimpleNamespace(port=8000, api_server_count=2)
            await sibling.init_state(Client(), SimpleNamespace(), args)
        assert siblings[0].offer == siblings[1].offer
        assert siblings[0].offer["socket"] == offer["socket"]
        state.envmill.close()

    asyncio.run(test())


def test_what_is_sampled_is_asked_as_the_row_says(play):
    async def test(door: Door, client: Client) -> None:
        engine = await vllm_fake.Engine(door.path).met()
        ask = generate(1, 7, 1, rows.STREAMED | rows.IGNORE_EOS | rows.SEEDED)
        ask.seed, ask.top_k, ask.temperature, ask.stop_tokens = 1 << 40, 9, 0.5, [3, 4]
        ask.text = struct.pack("<I", 2) + "é".encode()
        engine.ask(ask)
        await engine.told()
        ((_, params),) = client.said
        assert (params.seed, params.top_k, params.temperature) == (1 << 40, 9, 0.5)
        assert (params.stop, params.stop_token_ids, params.detokenize) == (["é"], [3, 4], True)
        assert (params.ignore_eos, params.logprobs, params.output_kind) == (True, None, "delta")
        ask.text, ask.number = b"\xff\0\0\0a", 2
        engine.ask(ask)
        assert (await engine.told())[0]["why"] == rows.REFUSED
        engine.close()

    play(test)


def test_parts_and_long_answers_come_one_after_another(play):
    async def test(door: Door, client: Client) -> None:
        engine = await vllm_fake.Engine(door.path).met()
        engine.ask(generate(1, 7, 30, rows.STREAMED | rows.LOGPROBS))
        streamed = await engine.outcome(1)
        assert (streamed["tokens"], len(streamed["logprobs"])) == ([7] * 30, 30)
        # A batch has room for 64 tokens.
        engine.ask(generate(2, 8, 200))
        long = await engine.outcome(2)
        assert (long["tokens"], len(long["logprobs"]), long["why"]) == ([8] * 200, 200, rows.LENGTH)
        engine.close()

    play(test)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("unlikely", [False, True])
@pytest.mark.parametrize("flags", [rows.LOGPROBS, rows.STREAMED | rows.LOGPROBS, 0])
def test_the_most_likely_tokens_go_with_those_that_were_sampled(play, flat, unlikely, flags):
    async def test(door: Door, client: Client) -> None:
        client.flat, client.unlikely = flat, unlikely
        engine = await vllm_fake.Engine(door.path).met()
        # More than a batch holds, so that they come in parts.
        ask = generate(1, 7, 100, flags)
        ask.top_logprobs = 3
        engine.ask(ask)
        told = await engine.outcome(1)
        ((_, params),) = client.said
        assert params.logprobs == 3
        sampled = -9.5 if unlikely else -0.5
        assert (told["tokens"], told["logprobs"]) == ([7] * 100, [sampled] * 100 if flags else [])
        first = 8 if unlikely else 7
        assert told["top_tokens"] == [first, first + 1, first + 2] * 100
        assert told["top_logprobs"] == [-0.5, -1.5, -2.5] * 100
        # In the batches of others there are none, nor in the same places later.
        engine.ask(generate(2, 7, 2), *(generate(it, 7, 1) for it in (3, 4)))
        assert all(not it["top_tokens"] and not it["top_logprobs"] for it in await engine.told())
        engine.close()

    play(test)


def test_those_who_ask_for_the_most_likely_tokens_share_batches_with_others(play):
    async def test(door: Door, client: Client) -> None:
        client.flat = True
        engine = await vllm_fake.Engine(door.path).met()
        asks = [generate(it, 10 * it, it) for it in (1, 2, 3, 4)]
        asks[1].top_logprobs, asks[3].top_logprobs = 20, 1
        engine.ask(*asks)
        told = {it["number"]: it for it in await engine.told()}
        assert [len(told[it]["top_tokens"]) for it in (1, 2, 3, 4)] == [0, 40, 0, 4]
        assert told[2]["top_tokens"] == [*range(20, 40)] * 2
        assert told[4]["top_tokens"] == [40] * 4
        asks[0].number, asks[0].top_logprobs = 5, 21
        engine.ask(asks[0])
        (refused,) = await engine.told()
        assert (refused["why"], refused["text"]) == (rows.REFUSED, b"21 most likely tokens; at most 20")
        engine.close()

    play(test)


def test_fewer_of_the_most_likely_tokens_than_were_asked_for_are_a_failure(play):
    async def test(door: Door, client: Client) -> None:
        client.place = lambda token, most: Client.place(client, token, most - 1)  # type: ignore[method-assign]
        engine = await vllm_fake.Engine(door.path).met()
        ask = generate(1, 7, 2)
        ask.top_logprobs = 3
        engine.ask(ask)
        assert (await engine.outcome(1))["why"] == rows.NONSENSE
        engine.close()

    play(test)


def test_a_generation_is_held_to_what_it_asks_for(play):
    async def test(door: Door, client: Client) -> None:
        engine = await vllm_fake.Engine(door.path).met()
        schema = '{"title": "é"}'
        asks = [generate(it, 7, 1) for it in (1, 2, 3, 4)]
        asks[1].constraint = rows.JSON_OBJECT
        asks[2].constraint, asks[2].schema = rows.JSON_SCHEMA, schema.encode()
        asks[3].constraint = 9
        engine.ask(*asks)
        told = {it["number"]: it for it in await engine.told()}
        assert [told[it]["kind"] for it in (1, 2, 3)] == [rows.END] * 3
        assert (told[4]["kind"], told[4]["why"]) == (rows.FAILED, rows.UNSUPPORTED)
        free, *held = (params for _, params in client.said)
        assert not hasattr(free, "structured_outputs")
        assert [vars(it.structured_outputs) for it in held] == [{"json_object": True}, {"json": schema}]
        # What fails before anything is sampled: its grammar, or vLLM.
        asks = [generate(it, 998, 1) for it in (5, 6)]
        asks[0].constraint = rows.JSON_OBJECT
        engine.ask(*asks)
        assert [it["why"] for it in await engine.told()] == [rows.REFUSED, rows.LOST]
        engine.close()

    play(test)


def test_an_engine_that_makes_no_room_is_waited_for(play):
    async def test(door: Door, client: Client) -> None:
        engine = await vllm_fake.Engine(door.path).met()
        for first in (0, 4, 8):
            engine.ask(*(generate(first + nth, 7, 40) for nth in range(4)))
            while engine.writer.begin_or_wait(engine.reader) is None:
                await asyncio.sleep(0.001)
        # All is sampled, and two batches of one such answer are all that is told.
        while len(client.said) < 12:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        assert engine.reader.published[0] == 2
        tokens = dict.fromkeys(range(12), 0)
        while any(it < 40 for it in tokens.values()):
            for row in await engine.told():
                tokens[row["number"]] += len(row["tokens"])
        assert set(tokens.values()) == {40}
        engine.close()

    play(test)


@pytest.mark.parametrize("flags", [0, rows.STREAMED])
def test_aborted_generations_end_and_forgotten_ones_say_nothing(play, flags):
    async def test(door: Door, client: Client) -> None:
        engine = await vllm_fake.Engine(door.path).met()
        engine.ask(generate(1, 999, 5, flags), generate(2, 999, 5, flags))
        # The second batch may be read before vLLM has taken the first's requests.
        engine.ask(rows.Ask(1, rows.ABORT), rows.Ask(2, rows.FORGET), rows.Ask(77, rows.ABORT))
        ended = await engine.outcome(1)
        assert (ended["kind"], ended["why"]) == (rows.END, rows.ABORTED)
        while client.aborted or any(it.generations for it in door.peers):
            await asyncio.sleep(0.001)
        engine.ask(generate(3, 7, 1))
        assert (await engine.outcome(3))["tokens"] == [7]
        engine.close()

    play(test)


def test_what_a_lost_engine_has_asked_for_is_aborted(play):
    async def test(door: Door, client: Client) -> None:
        lost = await vllm_fake.Engine(door.path).met()
        other = await vllm_fake.Engine(door.path).met()
        lost.ask(generate(1, 999, 5), generate(2, 999, 5))
        other.ask(generate(1, 999, 2))
        while len(client.aborted) < 3:
            await asyncio.sleep(0.001)
        lost.close()
        while len(client.aborted) > 1:
            await asyncio.sleep(0.001)
        client.go.set()
        assert (await other.outcome(1))["tokens"] == [999, 999]
        other.close()

    play(test)


def test_vllm_is_told_what_it_is_told_over_http(play):
    async def test(door: Door, client: Client) -> None:
        engine = await vllm_fake.Engine(door.path).met()
        engine.ask(rows.Ask(1, rows.PAUSE, text=b"keep"), rows.Ask(2, rows.PAUSE, text=b"odd"))
        assert {it["number"]: it["kind"] for it in await engine.told()} == {
            1: rows.DONE,
            2: rows.FAILED,
        }
        engine.ask(
            rows.Ask(3, rows.LOAD_WEIGHTS, text=b"/w"), rows.Ask(4, rows.SET_VERSION, text=b"12")
        )
        assert [it["kind"] for it in await engine.told()] == [rows.DONE, rows.DONE]
        assert ("reload_weights", {"weights_path": "/w"}) in client.said
        assert ("reset", True) in client.said
        assert ("version", "12") in client.said
        engine.ask(rows.Ask(5, rows.RESUME), rows.Ask(6, 200))
        lost, odd = await engine.told()
        assert (lost["why"], odd["why"]) == (rows.LOST, rows.UNSUPPORTED)
        engine.close()

    play(test)


@pytest.mark.parametrize(
    "hello",
    [
        b"hm",
        b"[]",
        {**vllm_fake.HELLO, "version": 2},
        {**vllm_fake.HELLO, "rows": 0},
        {**vllm_fake.HELLO, "tokens_bytes": 1 << 31},
    ],
)
def test_strangers_are_sent_away(play, hello):
    async def test(door: Door, client: Client) -> None:
        with pytest.raises((EOFError, ConnectionResetError)):
            await vllm_fake.Engine(door.path, hello).met()
        assert not door.peers
        (await vllm_fake.Engine(door.path).met()).close()

    play(test)


def test_nonsense_in_a_segment_ends_that_engine_and_no_other(play):
    async def test(door: Door, client: Client) -> None:
        good = await vllm_fake.Engine(door.path).met()
        random.seed(1)
        for nth in range(60):
            engine = await vllm_fake.Engine(door.path).met()
            if nth % 3 == 0:
                slot = engine.writer.laid_out[0]["tokens"][0]
                slot[:4] = memoryview(
                    struct.pack("<4I", *(random.getrandbits(31) for _ in range(4)))
                ).cast("I")
                struct.pack_into("<QII", engine.writer.heads[0], 0, 0, 3, 0)
                engine.writer.published[0] = 1
            elif nth % 3 == 1:
                engine.writer.published[0] = random.getrandbits(63)
            else:
                noise = random.randbytes(len(engine.writer.view) - ring.HEADER_BYTES)
                engine.writer.view[ring.HEADER_BYTES :] = noise
                struct.pack_into("<QII", engine.writer.heads[0], 0, 0, 4, 0)
                engine.writer.published[0] = 1
            os.eventfd_write(engine.theirs, 1)
            while len(door.peers) > 1:
                await asyncio.sleep(0.001)
            engine.close()
        good.ask(generate(1, 7, 1))
        assert (await good.outcome(1))["tokens"] == [7]
        good.close()

    play(test)


def test_a_socket_that_was_left_is_replaced_and_one_in_use_is_not(play, tmp_path):
    async def test(door: Door, client: Client) -> None:
        with pytest.raises(OSError, match="another process"):
            Door(door.path, door.engine, asyncio.get_running_loop())
        left = tmp_path / "left"
        code = (
            f"import socket; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).bind({str(left)!r})"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
        Door(left, door.engine, asyncio.get_running_loop()).close()
        assert not left.exists()

    play(test)


def test_the_default_socket_is_only_this_users(monkeypatch, tmp_path):
    monkeypatch.delenv("ENVMILL_VLLM_SOCKET", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    path = socket_path()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.parent.chmod(0o755)
    with pytest.raises(PermissionError):
        socket_path()


def test_vllm_finds_the_plug_in():
    try:
        envmill = importlib.metadata.distribution("envmill")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("envmill is not installed")
    (found,) = envmill.entry_points.select(group="vllm.endpoint_plugins")
    assert (found.name, found.load()) == ("envmill", Plugin)


def test_the_plug_in_needs_nothing_but_the_library():
    code = (
        "import sys; sys.modules['numpy'] = None; import envmill_vllm; print('envmill' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert Plugin.name == "envmill"


def test_what_vllm_raises_is_told_apart():
    class GracefulHTTPError(Exception):
        pass

    assert failure(GracefulHTTPError("full"))[0] == rows.BUSY
    assert failure(vllm_fake.VLLMClientError("wrong"))[0] == rows.REFUSED
    assert failure(RuntimeError("dead")) == (rows.LOST, b"RuntimeError: dead")
