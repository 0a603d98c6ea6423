"""What vLLM sees: an endpoint plugin (``vllm/plugins/endpoint_plugins/interface.py``)."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

from envmill_vllm.door import Door
from envmill_vllm.engine import Engine

SOCKET = "ENVMILL_VLLM_SOCKET"

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


class Plugin:
    """The entry point's factory. It adds no routes: only the socket is served."""

    name = "envmill"
    required_tasks = ("generate",)

    def attach_router(self, app: Any) -> None:
        """Nothing is served over HTTP."""

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Opens the socket, in the event loop that the API server runs in."""
        if engine_client is None:
            return
        path = socket_path()
        try:
            door = Door(path, Engine(engine_client), asyncio.get_running_loop())
        except OSError as error:
            # The server is of use without it: whoever wanted it reads this line.
            log.error("no Envmill engine can connect at %s: %s", path, error)
            return
        state.envmill = door
        log.info("Envmill engines are welcome at %s", path)
