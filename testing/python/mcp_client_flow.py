"""Drives an OpenEnv server of tools with the stock `MCPToolClient`, as agents' harnesses do.

usage: mcp_client_flow.py URL

One session over HTTP and a WebSocket attached to it: tools are listed and called over HTTP, the
environment is reset and stepped over the WebSocket. The tools are those of `servers/front_env.py`.
Prints one JSON object of what the client saw. Exits with status 1 and the traceback on standard error
if the client raises where it should not.
"""

import asyncio
import json
import sys

import serve  # noqa: F401  spares the import of gradio

from openenv.core.env_server.mcp_types import CallToolAction
from openenv.core.mcp_client import MCPToolClient


async def main() -> None:
    seen = {}
    async with MCPToolClient(base_url=sys.argv[1]) as client:
        seen["tools"] = [(tool.name, tool.input_schema) for tool in await client.list_tools()]
        seen["add"] = await client.call_tool("add", a=1, b=2)
        seen["counts"] = [await client.call_tool("count") for _ in range(2)]
        try:
            seen["boom"] = await client.call_tool("boom")
        except RuntimeError as error:
            seen["boom"] = f"raised {error}"
        seen["reset"] = (await client.reset(episode_id="e")).observation
        step = await client.step(CallToolAction(tool_name="count", arguments={}))
        seen["step"] = (step.observation, step.reward, step.done)
        seen["state"] = await client.state()
        # The WebSocket's part is over before the session's.
        seen["session"] = client._production_session_id is not None
        await client.disconnect()
        seen["count after"] = await client.call_tool("count")
    print(json.dumps(seen, default=lambda value: value.model_dump()))


asyncio.run(main())
