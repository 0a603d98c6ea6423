"""A thin harness for `verifiers` 0.4: a chat without tools, in the process of the rollouts.

The `null` harness that comes with verifiers starts a Python program for each turn. This one asks the same
endpoint (verifiers' own interception server, which asks the model) from where it is, and so shows
what its rollouts cost without those programs. Used by `verifiers_bench.py` under the name of this module.
"""

import aiohttp
from verifiers.v1.configs.harness import HarnessConfig
from verifiers.v1.dialects.chat import message_to_wire
from verifiers.v1.harness import Harness
from verifiers.v1.runtimes import ProgramResult

__all__ = ["InProcessHarness"]

session = None


async def close():
    """Closes the connections that all rollouts share."""
    if session is not None:
        await session.close()


class InProcessConfig(HarnessConfig):
    pass


class InProcessHarness(Harness[InProcessConfig]):
    APPENDS_SYSTEM_PROMPT = True
    SUPPORTS_RESUME = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data):
        global session
        if session is None:
            session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        _, prompt = self.resolve_prompt(data)
        body = {"model": ctx.model, "messages": [message_to_wire(message) for message in prompt]}
        headers = {"Authorization": f"Bearer {secret}"}
        async with session.post(f"{endpoint}/chat/completions", json=body, headers=headers) as response:
            text = await response.text()
        if response.status != 200:
            return ProgramResult(exit_code=1, stdout="", stderr=text)
        return ProgramResult(exit_code=0, stdout="", stderr="")
