"""What vLLM sees: an endpoint plugin (``vllm/plugins/endpoint_plugins/interface.py``)."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

from envmill_vllm import rows
from envmill_vllm.door import Door
from envmill_vllm.engine import Engine

SOCKET = "ENVMILL_VLLM_SOCKET"

ROUTE = "/v1/envmill"
"""Where engines are told of the socket: below ``/v1``, where vLLM asks for its API key if it has one."""

log = logging.getLogger("vllm.envmill")


def socket_path() -> Path:
    """Where engines come: ``ENVMILL_VLLM_SOCKET``, or a directory that only this user can enter."""
    if named := os.environ.get(SOCKET):
        return Path(named)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        folder = Path(runtime)
    else:
        folder = Path(tempfile.gettempdir()) / f"envmill-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if found.st_uid != os.getuid() or found.st_mode & 0o077 or not folder.is_dir():
            raise PermissionError(f"{folder} is not only this user's: name a socket with {SOCKET}")
    return folder / "envmill-vllm.sock"


def several(args: Any) -> bool:
    """Whether vLLM has several API servers, of which one opens the socket."""
    return (getattr(args, "api_server_count", None) or 1) > 1


def engine_name(args: Any) -> str:
    """Names this vLLM among all that the host runs. Its API servers, if it has several, say the same: the
    process that has started them all, and when that was started."""
    if not several(args):
        return secrets.token_hex(16)
    parent = os.getppid()
    # Behind the name in brackets, which may have brackets itself; the 22nd field of all.
    began = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{parent}-{began}"


def host_name() -> str:
    """Names the kernel that runs here since it was started, for containers as well."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Plugin:
    """The entry point's factory. Its one route says where the socket is."""

    name = "envmill"
    required_tasks = ("generate",)

    def __init__(self) -> None:
        self.offer: dict[str, Any] = {"version": rows.VERSION, "socket": None}

    def attach_router(self, app: Any) -> None:
        """Adds the route."""
        app.add_api_route(
            ROUTE, self.tell, methods=["GET"], response_model=None, include_in_schema=False
        )

    async def tell(self) -> dict[str, Any]:
        """What engines are told that come over HTTP."""
        return self.offer

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Opens the socket, in the event loop that the API server runs in."""
        if engine_client is None:
            return
        path = socket_path().absolute()
        name = engine_name(args)
        try:
            door = Door(path, Engine(engine_client), asyncio.get_running_loop(), name)
        except OSError as error:
            # The server is of use without it: whoever wanted it reads this line.
            log.error("no Envmill engine can connect at %s: %s", path, error)
            if not several(args):
                return
        else:
            state.envmill = door
            log.info("Envmill engines are welcome at %s", path)
        # The engine that comes is told the name again, and knows then whose socket it is.
        self.offer |= {
            "socket": str(path),
            "engine": name,
            "host": host_name(),
            "port": getattr(args, "port", None),
        }
