# A server that speaks OpenEnv badly, for what no stock server does: one fault of the wire, which PLANT
# names. It is no environment to play, only an answer to each request.
#
# usage: PLANT=… python planted_wire.py FILE, which its port is written to
import asyncio
import http
import json
import os
import select
import sys

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.frames import Opcode
from websockets.http11 import Response
from websockets.protocol import Protocol
from websockets.server import ServerProtocol

PLANT = os.getenv("PLANT", "")
MAXS = int(os.getenv("MAXS", "4"))
open_sessions = 0
ACTION = {
    "type": "object",
    "additionalProperties": False,
    "required": ["move"],
    "properties": {"move": {"type": "integer", "minimum": 0, "maximum": 3}},
}


def error(code, message="planted"):
    return json.dumps({"type": "error", "data": {"message": message, "code": code}})


def page(connection, request):
    path = request.path
    if path == "/ws":
        return None
    body, status = {"detail": "Not Found"}, 404
    if path == "/health":
        body, status = {"status": "healthy"}, 200
    if path == "/metadata":
        body, status = {"name": "wire"}, 200
    if path == "/schema":
        observation = {"type": "object", "properties": {"n": {"type": "integer"}}}
        body, status = {"action": ACTION, "observation": observation, "state": {"type": "object"}}, 200
    if path.startswith("/envmill-no-such-socket"):
        status = 403
    text = json.dumps(body).encode()
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(text)), "Connection": "close"})
    return Response(status, http.HTTPStatus(status).phrase, headers, text)


class Session:
    def __init__(self, socket):
        self.socket = socket
        self.n = 0
        self.raw = False

    def seen(self):
        reward, done = 0.5 if self.n % 2 else 0.0, self.n >= 6
        observation = {"n": self.n}
        if PLANT == "nan-literal" and self.n == 4:
            observation["x"] = float("nan")
        if PLANT == "nan-reward" and self.n == 4:
            reward = float("inf")
        data = {"observation": observation, "reward": reward, "done": done}
        if PLANT == "reward-text" and self.n == 2:
            data["reward"] = "1"
        if PLANT == "done-number" and self.n == 2:
            data["done"] = 1
        if PLANT == "no-observation" and self.n == 2:
            del data["observation"]
        if PLANT == "garbage" and self.n == 3:
            return "{'no': 'json'}"
        return json.dumps({"type": "observation", "data": data})

    async def answer(self, text):
        if isinstance(text, bytes):
            return error("SESSION_ERROR"), True
        try:
            message = json.loads(text)
        except ValueError:
            if PLANT == "mistake-closes":
                self.socket.transport.abort()
                return None, True
            if PLANT == "mistake-silent":
                return None, False
            return error("INVALID_JSON"), False
        if not isinstance(message, dict):
            return error("SESSION_ERROR"), True
        kind = message.get("type")
        allowed = {"reset": {"type", "data"}, "step": {"type", "data"}, "mcp": {"type", "data"}}
        allowed = allowed.get(kind, {"type"}) if isinstance(kind, str) else set()
        if kind not in ("reset", "step", "state", "close", "mcp"):
            return error("WHAT" if PLANT == "error-code" else "UNKNOWN_TYPE"), False
        if set(message) - allowed and PLANT != "extra-key":
            return error("VALIDATION_ERROR", "extra: " + text[:5_000_000]), False
        if kind == "close":
            return None, True
        if kind == "mcp":
            data = {"jsonrpc": "2.0", "id": 1, "result": {"tools": []}}
            return json.dumps({"type": "mcp", "data": data}), False
        if kind == "state":
            if PLANT == "wrong-reply":
                return self.seen(), False
            return json.dumps({"type": "state", "data": {"episode_id": None, "step_count": self.n}}), False
        if not isinstance(message.get("data", {} if kind == "reset" else None), dict):
            return error("VALIDATION_ERROR"), False
        if kind == "reset":
            self.n = 0
            return self.seen(), False
        data = message["data"]
        if set(data) - {"move"} or "move" not in data and PLANT != "required-accepted":
            return error("VALIDATION_ERROR"), False
        if self.n >= 6:
            return error("EXECUTION_ERROR", "over"), False
        self.n += 1
        if PLANT == "step-silent" and self.n == 3:
            return None, False
        if PLANT == "step-closes" and self.n == 3:
            self.socket.transport.abort()
            return None, True
        return self.seen(), False


async def session(socket):
    global open_sessions
    if open_sessions >= MAXS:
        if PLANT == "capacity-drops":
            socket.transport.abort()
            return
        if PLANT == "capacity-hangs":
            await asyncio.sleep(3600)
        await socket.send(error("CAPACITY_REACHED"))
        return
    open_sessions += 1
    mine = Session(socket)
    ended_well = False
    waiting = []
    try:
        async for text in socket:
            answer, ends = await mine.answer(text)
            if PLANT == "order" and answer is not None and '"state"' in text:
                # What is quicker to say comes first.
                async def later(answer=answer):
                    await asyncio.sleep(0.05)
                    await socket.send(answer)

                waiting.append(asyncio.create_task(later()))
                continue
            if PLANT == "half-frame" and mine.n == 3:
                socket.transport.write(b"\x81\x7e\x10\x00half")
                await asyncio.sleep(0.05)
                socket.transport.abort()
                return
            if answer is not None:
                if PLANT == "slow-reader" and len(answer) > 2_000_000:
                    send_blocking(socket, answer.encode())
                elif PLANT == "binary":
                    await socket.send(answer.encode())
                else:
                    await socket.send(answer)
                if PLANT == "twice":
                    await socket.send(answer)
            if ends:
                ended_well = True
                return
    except Exception:
        pass
    finally:
        if PLANT != "leak" or ended_well:
            open_sessions -= 1


def send_blocking(socket, payload):
    """Sends a frame without leaving the loop to anybody else."""
    raw = socket.transport.get_extra_info("socket")
    frame = b"\x81\x7f" + len(payload).to_bytes(8, "big") + payload
    while frame and select.select([], [raw], [], 60)[1]:
        frame = frame[os.write(raw.fileno(), frame[: 1 << 16]) :]


class Impatient(ServerConnection):
    """Waits for the first bytes of each connection without leaving the loop to anybody else."""

    def connection_made(self, transport):
        super().connection_made(transport)
        if PLANT == "half-open":
            select.select([transport.get_extra_info("socket")], [], [], 60)


def skip_frames(skips):
    """Has the library not see some of the frames that come."""
    receive = Protocol.recv_frame

    def recv_frame(self, frame):
        if not skips(frame):
            receive(self, frame)

    Protocol.recv_frame = ServerProtocol.recv_frame = recv_frame


async def main(told):
    if PLANT == "no-pongs":
        skip_frames(lambda frame: frame.opcode is Opcode.PING)
    if PLANT == "no-fragments":
        skip_frames(lambda frame: frame.opcode is Opcode.CONT or not frame.fin)
    options = {"process_request": page, "max_size": 1 << 24, "ping_interval": None}
    options["create_connection"] = Impatient
    server = await serve(session, "127.0.0.1", 0, **options)
    # A port that nobody else can have taken; told in one piece.
    with open(told + ".part", "w") as file:
        print(server.sockets[0].getsockname()[1], file=file)
    os.rename(told + ".part", told)
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
